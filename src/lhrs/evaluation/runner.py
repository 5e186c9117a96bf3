"""Ask a model all questions once. Answers are stored sample by sample, so that a stopped evaluation resumes.

The key of a row is a hash of the model, the images, the prompt and the allowed answers. A question whose key is in the
file is not asked again. Rows of other models and protocols are kept. The final file does not depend on the batch size
or on the number of restarts.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs import fingerprint
from lhrs.atomic_io import write_atomic
from lhrs.dropped import Dropped
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import image_digest
from lhrs.evaluation.prompts import PromptedItem, options_hash
from lhrs.imagery.image import GeoImage, open_image
from lhrs.inference.runtime import Generation, Request, Runtime
from lhrs.metrics.metric import Metric
from lhrs.progress import Bar

Row = dict[str, Any]


class PredictionFile:
    """The answers of models to the questions of one benchmark and one variant, as JSON lines."""

    def __init__(self, path: Path) -> None:
        """Read the rows that a file contains already."""
        self.path = path
        self.rows: dict[str, Row] = {row["key"]: row for row in _read_rows(path)}
        path.parent.mkdir(parents=True, exist_ok=True)

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows at the end of the file."""
        self.rows |= {row["key"]: row for row in rows}
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(_to_line(row) for row in rows))

    def rewrite(self, last: Sequence[str]) -> None:
        """Write every row once: first those of other models, splits and protocols, then those with the keys `last`."""
        current = set(last)
        keys = [key for key in self.rows if key not in current] + list(dict.fromkeys(last))
        write_atomic(self.path, "".join(_to_line(self.rows[key]) for key in keys))


def answer_all(
    runtime: Runtime,
    model_hash: str,
    prompted: Sequence[PromptedItem],
    metric: Metric,
    *,
    variant: str,
    path: Path,
    batch_size: int = 16,
    seed: int = 0,
    bar: Bar | None = None,
    dropped: Dropped | None = None,
    max_new_tokens: int | None = None,
) -> list[Row | None]:
    """Return a row for every question, in their order; None if its image cannot be read.

    Args:
        runtime: the loaded model.
        model_hash: identifies the model in the keys of the rows.
        prompted: the questions.
        metric: of the benchmark.
        variant: one of `lhrs.evaluation.prompts.VARIANTS`.
        path: file of answers; questions that it answers are not asked again.
        batch_size: questions per call of the runtime.
        seed: of the order in which the variant `shuffled` assigns images.
        bar: counts the questions done.
        dropped: counts the questions whose image cannot be read.
        max_new_tokens: limit of an answer; None is that of the metric.
    """
    images = _images_to_show(prompted, variant, seed)
    keys = [_key(model_hash, question, files) for question, files in zip(prompted, images, strict=True)]
    file = PredictionFile(path)
    first: dict[str, int] = {}
    for n, key in enumerate(keys):
        if key not in file.rows:
            first.setdefault(key, n)
    missing = list(first.values())
    advance = (lambda count: None) if bar is None else bar.update
    advance(len(keys) - len(missing))
    for start in range(0, len(missing), batch_size):
        batch = missing[start : start + batch_size]
        readable = []
        for n in batch:
            try:
                readable.append((n, [open_image(image) for image in images[n]]))
            except DataError as error:
                if dropped is not None:
                    dropped.add("questions whose image cannot be read", str(error))
        requests = [
            to_request(prompted[n], metric, tuple(o.pixels for o in opened), max_new_tokens) for n, opened in readable
        ]
        replies = runtime.generate(requests) if requests else []
        rows = []
        for (n, opened), reply in zip(readable, replies, strict=True):
            size = _asked_size(prompted[n], opened, variant) if metric.answer_type == "boxes" else (1, 1)
            rows.append({"key": keys[n], "id": prompted[n].item.id, "rotation": prompted[n].rotation,
                         "variant": variant, "options": options_hash(prompted[n].item),
                         **to_row(reply, metric, size)})  # fmt: skip
        file.append(rows)
        advance(len(batch))
    file.rewrite([key for key in keys if key in file.rows])
    return [file.rows.get(key) for key in keys]


def to_request(
    prompted: PromptedItem, metric: Metric, pixels: tuple[np.ndarray, ...], max_new_tokens: int | None = None
) -> Request:
    """Return the request to a runtime."""
    form, limit = metric.answer_type, max_new_tokens or metric.max_new_tokens
    return Request(pixels, prompted.prompt, prompted.choices, form, max_new_tokens=limit)


def to_row(reply: Generation, metric: Metric, size_wh: tuple[int, int]) -> dict[str, object]:
    """Return what is stored of a reply: its text, its confidence, and its boxes in pixels of the image."""
    confidence = reply.sequence_probability
    row: dict[str, object] = {
        "prediction": reply.text, "confidence": None if confidence is None else round(confidence, 6)
    }  # fmt: skip
    if metric.answer_type == "boxes":
        row["boxes"] = [[round(float(v), 3) for v in box] for box in reply.boxes * np.tile(size_wh, 2)]
    return row


def _asked_size(prompted: PromptedItem, opened: Sequence[GeoImage], variant: str) -> tuple[int, int]:
    """Return the size of the image that the question is about, even where another image was shown."""
    image = opened[0] if variant == "normal" else open_image(prompted.item.images[0])
    return image.width, image.height


def _images_to_show(prompted: Sequence[PromptedItem], variant: str, seed: int) -> list[tuple[str, ...]]:
    """Return the files of the images that are shown with each question."""
    if variant == "blind":
        return [()] * len(prompted)
    if variant == "normal":
        return [question.item.images for question in prompted]
    images = list(dict.fromkeys(question.item.images for question in prompted))
    order = np.random.default_rng(seed).permutation(len(images))
    # A cycle through all images in random order: no question keeps its own.
    following = {images[order[n]]: images[order[(n + 1) % len(order)]] for n in range(len(order))}
    return [following[question.item.images] for question in prompted]


def _key(model_hash: str, prompted: PromptedItem, files: Sequence[str]) -> str:
    digests = [image_digest(file) for file in files]
    fields = [model_hash, digests, prompted.prompt, prompted.choices, prompted.item.id, prompted.rotation]
    return fingerprint.of_config(fields)


def _to_line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file whose last line may be cut off."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").split("\n"):  # answers may contain other line separators
        try:
            yield json.loads(line)
        except ValueError:
            return

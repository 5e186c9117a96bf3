"""Ask a model everything, once: answers are kept sample by sample, so that a stopped evaluation goes on.

A row's key is a hash of the model, the image, the prompt and what the reply was restricted to. A question whose key is
in the file is not asked again; rows of other models and protocols stay. Whatever the batch, and however often it was
stopped, the file ends the same.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.evaluation.asking import Asked, kept, order_of, request
from lhrs.evaluation.benchmark import Metric, image_digest
from lhrs.files import write_file
from lhrs.imagery.open import open_image
from lhrs.inference.runtime import Runtime


def answer_all(
    runtime: Runtime,
    model: str,
    asked: Sequence[Asked],
    metric: Metric,
    variant: str,
    path: Path,
    batch_size: int = 16,
    seed: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Return a row per question, in their order.

    Args:
        runtime: the model.
        model: its hash.
        asked: the questions.
        metric: of the benchmark.
        variant: one of `lhrs.evaluation.asking.VARIANTS`.
        path: of the answers, JSON lines; made or gone on with.
        batch_size: questions at a time.
        seed: of whose image is shown instead, in the variant `shuffled`.
        done: called with the number of questions answered.

    Raises:
        DataError: an image cannot be read.
    """
    images = _shown(asked, variant, seed)
    keys = [_key(model, one, files) for one, files in zip(asked, images, strict=True)]
    found = {row["key"]: row for row in _read(path)}
    missing = [n for n, key in enumerate(keys) if key not in found]
    done(len(keys) - len(missing))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for start in range(0, len(missing), batch_size):
            part = [n for n in missing[start : start + batch_size] if keys[n] not in found]
            part = list({keys[n]: n for n in reversed(part)}.values())[::-1]  # asked twice, answered once
            opened = [[open_image(image) for image in images[n]] for n in part]
            pixels = [tuple(image.pixels for image in group) for group in opened]
            replies = runtime.generate([request(asked[n], metric, p) for n, p in zip(part, pixels, strict=True)])
            for n, group, reply in zip(part, opened, replies, strict=True):
                item, size = asked[n].item, (1, 1)
                if metric == "grounding":  # shares of the image that was asked about, even where another was shown
                    own = group[0] if variant == "asked" else open_image(item.images[0])
                    size = (own.width, own.height)
                row = {"key": keys[n], "id": item.id, "rotation": asked[n].rotation, "variant": variant,
                       "options": order_of(item), **kept(reply, metric, size)}  # fmt: skip
                found[keys[n]] = row
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            done(len(part))
    rows = [found[key] for key in keys]
    asked_now = set(keys)
    # Rows of other models, splits and protocols first, so that the last row of a question is this run's.
    once = {key: row for key, row in found.items() if key not in asked_now} | dict(zip(keys, rows, strict=True))
    write_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in once.values()))
    return rows


def _shown(asked: Sequence[Asked], variant: str, seed: int) -> list[tuple[str, ...]]:
    """Return the files of the images that are shown with each question."""
    if variant == "blind":
        return [()] * len(asked)
    if variant == "asked":
        return [one.item.images for one in asked]
    others = list(dict.fromkeys(one.item.images for one in asked))
    order = np.random.default_rng(seed).permutation(len(others))
    # A cycle through all images in random order: each gets another's.
    after = {others[order[n]]: others[order[(n + 1) % len(order)]] for n in range(len(order))}
    return [after[one.item.images] for one in asked]


def _key(model: str, asked: Asked, files: Sequence[str]) -> str:
    said = [model, [image_digest(file) for file in files], asked.prompt, asked.choices, asked.item.id, asked.rotation]
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()[:24]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file whose last line may have been cut off."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").split("\n"):  # answers may hold what else splits lines
        try:
            yield json.loads(line)
        except ValueError:
            return

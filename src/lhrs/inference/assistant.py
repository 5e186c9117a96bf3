"""The five things one asks of an image: ask, caption, classify, ground, count.

Images go in as files (any picture or raster), arrays or PIL images; `Answer` records come out in the same order, with boxes in
pixels of the file and, where it is georeferenced, as lon/lat polygons.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.boxes import parse_boxes
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import OpenedImage, View
from lhrs.imagery.open import open_image
from lhrs.inference.runtime import Reply, Request, Runtime
from lhrs.schema import Answer, AnswerBox, AnswerView

ImageInput = Any
"""A path, a uint8 array `(H, W, 3)`, or a PIL image."""

CAPTION = "describe the image in one sentence."
CLASSIFY = "which of these best describes the image: {options}?"
GROUND = "locate {expression}."
COUNT = "how many {thing} are there?"
SCENE = "what is the land use in this image?"

BATCH = 32
_MAX_SIDE = 1024
_SPECIAL = re.compile(r"<(?:image|pad|bos|eos|user|answer|loc_\d+)>")


class Assistant:
    """A loaded model that answers questions about images.

    Args:
        runtime: how the model runs; see `lhrs.load`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def ask(self, image: ImageInput, question: str, options: Sequence[str] | None = None) -> Answer:
        """Answer one question about one image; with `options` the answer is exactly one of them."""
        return next(self.ask_all([image], question, options))

    def caption(self, image: ImageInput) -> Answer:
        """Describe an image in one sentence."""
        return next(self.caption_all([image]))

    def classify(self, image: ImageInput, labels: Sequence[str] | None = None) -> Answer:
        """Name the class of an image: exactly one of `labels` as given, or in the model's own words."""
        return next(self.classify_all([image], labels))

    def ground(self, image: ImageInput, expression: str) -> Answer:
        """Find what an expression names; boxes are xyxy in pixels of the image."""
        return next(self.ground_all([image], expression))

    def count(self, image: ImageInput, thing: str = "buildings") -> Answer:
        """Count things."""
        return next(self.count_all([image], thing))

    def ask_all(
        self, images: Iterable[ImageInput], question: str, options: Sequence[str] | None = None
    ) -> Iterator[Answer]:
        """Answer the same question about many images, in order."""
        if not question.strip():
            raise ConfigError("the question is empty: say what you want to know.")
        return self._run(images, question, _with_options(question, options), options)

    def caption_all(self, images: Iterable[ImageInput]) -> Iterator[Answer]:
        """See `caption`."""
        return self._run(images, CAPTION, CAPTION, long=True)

    def classify_all(self, images: Iterable[ImageInput], labels: Sequence[str] | None = None) -> Iterator[Answer]:
        """See `classify`."""
        if labels is None:
            return self._run(images, SCENE, SCENE)
        return self._run(images, SCENE, CLASSIFY.replace("{options}", ", ".join(_plain(labels))), labels)

    def ground_all(self, images: Iterable[ImageInput], expression: str) -> Iterator[Answer]:
        """See `ground`."""
        question = GROUND.replace("{expression}", expression.strip() or "the buildings")
        return self._run(images, question, question, label=_noun(expression), long=True)

    def count_all(self, images: Iterable[ImageInput], thing: str = "buildings") -> Iterator[Answer]:
        """See `count`."""
        question = COUNT.replace("{thing}", thing)
        return self._run(images, question, question)

    def _run(
        self, images: Iterable[ImageInput], asked: str, prompt: str, options: Sequence[str] | None = None, *, label: str = "object",
        long: bool = False,
    ) -> Iterator[Answer]:  # fmt: skip
        plain = tuple(_plain(options)) if options is not None else None
        if plain is not None:
            _check_options(options, plain)
        prompt = _SPECIAL.sub(" ", prompt)
        source = iter(images)
        with ThreadPoolExecutor(2) as pool:
            pending = pool.submit(_read, list(islice(source, BATCH)))
            while opened := pending.result():
                pending = pool.submit(_read, list(islice(source, BATCH)))
                replies = self.runtime.generate([Request(o.pixels, prompt, plain) for _, o in opened])
                for (name, image), reply in zip(opened, replies, strict=True):
                    yield self._answer(name, image, asked, reply, options, plain, label, long)

    def _answer(
        self, name: str, image: OpenedImage, asked: str, reply: Reply, options: Sequence[str] | None,
        plain: tuple[str, ...] | None, label: str, long: bool,
    ) -> Answer:  # fmt: skip
        text = options[plain.index(reply.text)] if options is not None and plain is not None else polish(reply.text)
        boxes = find_boxes(reply, image, label, self.runtime.box_style)
        if boxes and options is None:
            text = f"{len(boxes)} box{'es' if len(boxes) > 1 else ''}"
        return Answer(
            image=name,
            question=asked,
            answer=text,
            confidence=reply.mean_probability if long or boxes else reply.sequence_probability,
            boxes=boxes,
            view=AnswerView(bands=image.view.bands, scaling=image.view.scaling),
            model=self.runtime.name,
            unfamiliar=self.runtime.unfamiliar(reply.features),
        )


def find_boxes(reply: Reply, image: OpenedImage, label: str, style: str) -> list[AnswerBox]:
    """Read the boxes of a reply as pixels of the image, each with the mean probability of its tokens."""
    found = parse_boxes(reply.text, (image.width, image.height), style).boxes
    if not len(found):
        return []
    scores = [reply.mean_probability] * len(found)
    if style == "loc64":
        places = [
            p for t, p in zip(reply.token_texts, reply.probabilities, strict=False) if t.strip().startswith("<loc_")
        ]
        if len(places) == 4 * len(found):
            scores = [float(np.prod(places[4 * i : 4 * i + 4]) ** 0.25) for i in range(len(found))]
    boxes = []
    for (x0, y0, x1, y1), score in zip(found.tolist(), scores, strict=True):
        ring = image.to_lonlat(np.array([[x0, y0], [x0, y1], [x1, y1], [x1, y0], [x0, y0]]))
        lonlat = None if ring is None or np.isnan(ring).any() else [tuple(p) for p in ring.tolist()]
        boxes.append(AnswerBox(label=label, xyxy=(x0, y0, x1, y1), lonlat=lonlat, confidence=score))
    return boxes


def polish(text: str) -> str:
    """Write a lower-case answer as people do: sentences begin with a capital, option letters are capitals."""
    text = text.strip()
    if text.endswith(".") and len(text) > 2:
        return re.sub(r"\bi\b", "I", text[0].upper() + text[1:])
    return text.upper() if len(text) == 1 and text.isalpha() else text


def _plain(labels: Sequence[str]) -> list[str]:
    """Spell labels as words: `AnnualCrop`, `annual_crop` and `annual crop` are the same to the model."""
    split = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label) for label in labels]
    return [re.sub(r"[\s_]+", " ", _SPECIAL.sub(" ", s)).strip().lower() for s in split]


def _check_options(options: Sequence[str], plain: Sequence[str]) -> None:
    if len(options) < 2:
        raise ConfigError("give at least two options, separated by commas.")
    for n, text in enumerate(plain):
        if not text:
            raise ConfigError(f"option {n + 1} is empty.")
        if text in plain[:n]:
            raise ConfigError(f"options {options[plain.index(text)]!r} and {options[n]!r} are the same to the model.")


def _with_options(question: str, options: Sequence[str] | None) -> str:
    if options is None or set(_plain(options)) <= {"yes", "no"}:
        return question
    return f"{question.rstrip()} options: {', '.join(_plain(options))}."


def _noun(expression: str) -> str:
    return re.sub(r"^\s*(?:the|all|every|each|a|an)\s+", "", expression.strip(), flags=re.IGNORECASE) or "object"


def _read(images: list[ImageInput]) -> list[tuple[str, OpenedImage]]:
    return [_open(image) for image in images]


def _open(image: ImageInput) -> tuple[str, OpenedImage]:
    if isinstance(image, str | Path):
        return str(image), open_image(image, _MAX_SIDE)
    pixels = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(f"an image array must be uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}.")
    height, width = pixels.shape[:2]
    return "array", OpenedImage(pixels, 1.0, width, height, View([1, 2, 3], "uint8 as is", "array"))

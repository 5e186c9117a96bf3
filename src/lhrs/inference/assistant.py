"""The five things one asks of an image: ask, caption, classify, ground, count.

Images go in as files (any picture or raster), arrays or PIL images; `Answer` records come out in the same order, with
boxes in pixels of the file and, where it is georeferenced, as lon/lat polygons.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lhrs.boxes import scale_boxes
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import OpenedImage, View
from lhrs.imagery.open import open_image
from lhrs.inference.runtime import Generation, Request, Runtime, Sampling
from lhrs.schema import Answer, AnswerBox, Rendering

ImageInput = Any
"""A path, a uint8 array `(H, W, 3)`, a PIL image, or an `OpenedImage`."""
OnError = Callable[[DataError], None]

BATCH = 32
_MAX_SIDE = 1024
_SPECIAL = re.compile(r"<(?:image|pad|bos|eos|user|answer|loc_\d+)>")


class Assistant:
    """A loaded model that answers questions about images.

    Args:
        runtime: how the model runs; see `lhrs.load`.
        temperature: 0 takes the likeliest answer; above 0 answers are drawn at random from `seed` and the position of
            the image, whatever the batch.
        seed: used when `temperature` is above 0.
    """

    def __init__(self, runtime: Runtime, temperature: float = 0.0, seed: int = 0) -> None:
        self.runtime, self.temperature, self.seed = runtime, temperature, seed

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
        self,
        images: Iterable[ImageInput],
        question: str,
        options: Sequence[str] | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[Answer]:
        """Answer the same question about many images, in order.

        Args:
            images: read while the model works, a batch ahead.
            question: what to ask of each.
            options: when given, every answer is exactly one of them.
            on_error: receives images that cannot be read, which are then left out; without it they raise DataError.
        """
        return self._run(images, self.ask_task(question, options), on_error)

    def caption_all(self, images: Iterable[ImageInput], on_error: OnError | None = None) -> Iterator[Answer]:
        """See `caption` and `ask_all`."""
        return self._run(images, self.caption_task(), on_error)

    def classify_all(
        self, images: Iterable[ImageInput], labels: Sequence[str] | None = None, on_error: OnError | None = None
    ) -> Iterator[Answer]:
        """See `classify` and `ask_all`."""
        return self._run(images, self.classify_task(labels), on_error)

    def ground_all(
        self, images: Iterable[ImageInput], expression: str, on_error: OnError | None = None
    ) -> Iterator[Answer]:
        """See `ground` and `ask_all`."""
        return self._run(images, self.ground_task(expression), on_error)

    def count_all(
        self, images: Iterable[ImageInput], thing: str = "buildings", on_error: OnError | None = None
    ) -> Iterator[Answer]:
        """See `count` and `ask_all`."""
        return self._run(images, self.count_task(thing), on_error)

    def ask_task(self, question: str, options: Sequence[str] | None = None) -> "Task":
        """Return what `ask` asks of an image."""
        if not question.strip():
            raise ConfigError("the question is empty: say what you want to know.")
        return Task(question, self._asked(question, options), options)

    def caption_task(self) -> "Task":
        """Return what `caption` asks of an image."""
        return Task(self.runtime.family.caption_prompt, self.runtime.family.caption_prompt, long=True)

    def classify_task(self, labels: Sequence[str] | None = None) -> "Task":
        """Return what `classify` asks of an image."""
        family = self.runtime.family
        prompt = (
            family.scene_prompt
            if labels is None
            else family.classify_prompt.replace("{options}", ", ".join(_plain(labels)))
        )
        return Task(family.scene_prompt, prompt, labels)

    def ground_task(self, expression: str) -> "Task":
        """Return what `ground` asks of an image."""
        question = self.runtime.family.ground_prompt.replace("{expression}", expression.strip() or "the buildings")
        return Task(question, question, label=_noun(expression), long=True, form="boxes")

    def count_task(self, thing: str = "buildings") -> "Task":
        """Return what `count` asks of an image."""
        question = self.runtime.family.count_prompt.replace("{thing}", thing)
        return Task(question, question, form="number")

    def chat(self, image: OpenedImage | None, name: str = "") -> "Chat":
        """Start a conversation about one image, or about none."""
        return Chat(self, image, name)

    def _run(self, images: Iterable[ImageInput], task: "Task", on_error: OnError | None) -> Iterator[Answer]:
        source, number = iter(images), 0
        with ThreadPoolExecutor(2) as pool:
            pending = pool.submit(_read, list(islice(source, BATCH)), on_error)
            while batch := pending.result():
                pending = pool.submit(_read, list(islice(source, BATCH)), on_error)
                opened = [(n, name, image) for n, (name, image) in enumerate(batch, number) if image is not None]
                replies = self.runtime.generate([self.request([image.pixels], task, n) for n, _, image in opened])
                number += len(batch)
                for (_, name, image), reply in zip(opened, replies, strict=True):
                    yield self.answer(name, image, task, reply)

    def _asked(self, question: str, options: Sequence[str] | None) -> str:
        family = self.runtime.family
        if options is None or set(_plain(options)) <= {"yes", "no"}:
            return family.ask_prompt.replace("{question}", question)
        listed = ", ".join(_plain(options))
        return family.ask_options_prompt.replace("{options}", listed).replace("{question}", question.rstrip())

    def request(self, images: Sequence[np.ndarray], task: "Task", index: int) -> Request:
        """Return what the model is asked.

        Args:
            images: uint8 `(H, W, 3)`; several are views of one thing.
            task: what is asked.
            index: position among all requests, which drawn answers depend on.
        """
        sampling = Sampling(self.temperature, self.seed, index) if self.temperature > 0 else None
        return Request(tuple(images), task.prompt, task.plain, task.form, sampling=sampling, history=task.history)

    def answer(self, name: str, image: OpenedImage | None, task: "Task", reply: Generation) -> Answer:
        """Turn a reply of the model into the record that users get."""
        plain, options = task.plain, task.options
        text = capitalize_answer(reply.text) if options is None or plain is None else options[plain.index(reply.text)]
        boxes = [] if image is None else find_boxes(reply, image, task.label, self.runtime.family.box_style)
        if boxes and options is None:
            text = f"{len(boxes)} box{'es' if len(boxes) > 1 else ''}"
        return Answer(
            image=name,
            question=task.question,
            answer=text,
            confidence=reply.mean_probability if task.long or boxes else reply.sequence_probability,
            boxes=boxes,
            rendering=Rendering(
                bands=image.view.bands if image else [], scaling=image.view.scaling if image else "no image"
            ),
            model=self.runtime.name,
            out_of_distribution=self.runtime.is_ood(reply.features),
        )


@dataclass
class Task:
    """What is asked of every image of a run."""

    question: str
    """As the user put it."""
    prompt: str
    """As the model hears it."""
    options: Sequence[str] | None = None
    label: str = "object"
    """Name of the things in boxes."""
    long: bool = False
    """The answer is a sentence or a list: confidence is the mean over tokens, not their product."""
    form: Literal["text", "number", "boxes"] = "text"
    """See `Request.form`."""
    history: tuple[tuple[str, str], ...] = ()
    plain: tuple[str, ...] | None = None
    """Options as the model spells them."""

    def __post_init__(self) -> None:
        self.prompt = _SPECIAL.sub(" ", self.prompt)
        if self.options is not None:
            self.plain = tuple(_plain(self.options))
            _check_options(self.options, self.plain)


class Chat:
    """A conversation about one image.

    Args:
        assistant: who answers.
        image: what it is about; None for text only.
        name: how answers name the image.
    """

    def __init__(self, assistant: Assistant, image: OpenedImage | None, name: str) -> None:
        self.assistant, self.image, self.name = assistant, image, name
        self.answers: list[Answer] = []
        self._said: list[tuple[str, str]] = []

    def ask(self, question: str, on_text: Callable[[str], None] | None = None) -> Answer:
        """Answer the next question; `on_text` receives the raw pieces of the answer as they come."""
        task = Task(question, self.assistant._asked(question, None), history=tuple(self._said))
        images = [] if self.image is None else [self.image.pixels]
        request = self.assistant.request(images, task, len(self.answers))
        reply = self.assistant.runtime.generate([request], on_text)[0]
        self._said.append((task.prompt, reply.text))
        self.answers.append(self.assistant.answer(self.name, self.image, task, reply))
        return self.answers[-1]


def find_boxes(reply: Generation, image: OpenedImage, label: str, style: str) -> list[AnswerBox]:
    """Read the boxes of a reply as pixels of the image, each with the mean probability of its tokens."""
    size = (image.width, image.height)
    found = _widened(scale_boxes(reply.boxes, (1, 1), size), size, style)
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


def _widened(boxes: np.ndarray, size_wh: tuple[int, int], style: str) -> np.ndarray:
    """Give boxes whose corners share a location token the extent of that token's cell."""
    if style != "loc64" or not len(boxes):
        return boxes
    half = np.array(size_wh) / 128
    flat = boxes[:, 2:] <= boxes[:, :2]
    return np.concatenate([boxes[:, :2] - half * flat, boxes[:, 2:] + half * flat], 1)


def capitalize_answer(text: str) -> str:
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


def _noun(expression: str) -> str:
    return re.sub(r"^\s*(?:(?:the|all|every|each|a|an)\s+)+", "", expression.strip(), flags=re.IGNORECASE) or "object"


def _read(images: list[ImageInput], on_error: OnError | None) -> list[tuple[str, OpenedImage | None]]:
    found: list[tuple[str, OpenedImage | None]] = []
    for image in images:
        try:
            found.append(open_input(image))
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
            found.append((str(image), None))
    return found


def open_input(image: ImageInput) -> tuple[str, OpenedImage]:
    """Return the name and the pixels of a path, an array or a PIL image; what is opened already comes back."""
    if isinstance(image, OpenedImage):
        return "image", image
    if isinstance(image, str | Path):
        opened = open_image(image, _MAX_SIDE)
        return os.fsencode(image).decode(errors="replace"), opened
    # A copy: runtimes remember the image they saw last, and a caller may draw into an array again.
    pixels = np.array(image.convert("RGB") if hasattr(image, "convert") else image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(f"an image array must be uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}.")
    height, width = pixels.shape[:2]
    return "array", OpenedImage(pixels, 1.0, width, height, View([1, 2, 3], "uint8 as is", "array"))

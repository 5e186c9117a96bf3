"""The five tasks on an image: ask, caption, classify, ground, count.

Inputs are files (any image or raster), arrays or PIL images. `Answer` records are returned in the same order. Boxes are
in pixels of the file and, if it is georeferenced, also lon/lat polygons.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from lhrs.boxes import scale_boxes
from lhrs.imagery.geo_image import GeoImage
from lhrs.inference import tasks
from lhrs.inference.images import ImageInput, OnError, RenderingOptions, open_inputs
from lhrs.inference.runtime import Generation, Request, Runtime, Sampling
from lhrs.inference.tasks import Task
from lhrs.schema import Answer, AnswerBox, Rendering

BATCH = 32
_MAX_SHORT_WORDS = 4
"""Answers of more words are sentences: their confidence is the mean over tokens."""


class Assistant:
    """A loaded model that answers questions about images.

    Args:
        runtime: of the model; see `lhrs.load`.
        temperature: 0 is greedy decoding. Above 0, sampling depends only on `seed` and the position of the image, not
            on the batch.
        seed: used when `temperature` is above 0.
        rendering: how rasters are rendered.
        max_new_tokens: maximum length of an answer in tokens; None is that of `Request`.
    """

    def __init__(
        self,
        runtime: Runtime,
        temperature: float = 0.0,
        seed: int = 0,
        rendering: RenderingOptions = RenderingOptions(),  # noqa: B008 (frozen)
        max_new_tokens: int | None = None,
    ) -> None:
        self.runtime, self.temperature, self.seed, self.rendering = runtime, temperature, seed, rendering
        self.max_new_tokens = max_new_tokens or Request.max_new_tokens

    def ask(self, image: ImageInput, question: str, options: Sequence[str] | None = None) -> Answer:
        """Answer one question about one image; with `options` the answer is exactly one of them."""
        return next(self.ask_all([image], question, options))

    def caption(self, image: ImageInput) -> Answer:
        """Describe an image in one sentence."""
        return next(self.caption_all([image]))

    def classify(self, image: ImageInput, labels: Sequence[str] | None = None) -> Answer:
        """Name the class of an image: exactly one of `labels` if there are any, else free text."""
        return next(self.classify_all([image], labels))

    def ground(self, image: ImageInput, expression: str) -> Answer:
        """Find what an expression names; boxes are xyxy in pixels of the image."""
        return next(self.ground_all([image], expression))

    def count(self, image: ImageInput, target: str = "buildings") -> Answer:
        """Count objects of a class."""
        return next(self.count_all([image], target))

    def ask_all(
        self,
        images: Iterable[ImageInput],
        question: str,
        options: Sequence[str] | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[Answer]:
        """Answer the same question about many images, in order.

        Args:
            images: prefetched one batch ahead of the model.
            question: about each image.
            options: every answer is exactly one of them; None allows any.
            on_error: receives images that cannot be read, which are then skipped; without it they raise DataError.
        """
        return self._run(images, tasks.ask_task(self.runtime.family, question, options), on_error)

    def caption_all(self, images: Iterable[ImageInput], on_error: OnError | None = None) -> Iterator[Answer]:
        """See `caption` and `ask_all`."""
        return self._run(images, tasks.caption_task(self.runtime.family), on_error)

    def classify_all(
        self, images: Iterable[ImageInput], labels: Sequence[str] | None = None, on_error: OnError | None = None
    ) -> Iterator[Answer]:
        """See `classify` and `ask_all`."""
        return self._run(images, tasks.classify_task(self.runtime.family, labels), on_error)

    def ground_all(
        self, images: Iterable[ImageInput], expression: str, on_error: OnError | None = None
    ) -> Iterator[Answer]:
        """See `ground` and `ask_all`."""
        return self._run(images, tasks.ground_task(self.runtime.family, expression), on_error)

    def count_all(
        self, images: Iterable[ImageInput], target: str = "buildings", on_error: OnError | None = None
    ) -> Iterator[Answer]:
        """See `count` and `ask_all`."""
        return self._run(images, tasks.count_task(self.runtime.family, target), on_error)

    def chat(self, image: GeoImage | None, name: str = "") -> "Chat":
        """Start a conversation about one image, or a text-only conversation."""
        return Chat(self, image, name)

    def _run(self, images: Iterable[ImageInput], task: Task, on_error: OnError | None) -> Iterator[Answer]:
        source, number = iter(images), 0
        with ThreadPoolExecutor(2) as pool:
            pending = pool.submit(open_inputs, list(islice(source, BATCH)), self.rendering, on_error)
            while batch := pending.result():
                pending = pool.submit(open_inputs, list(islice(source, BATCH)), self.rendering, on_error)
                opened = [(n, name, image) for n, (name, image) in enumerate(batch, number) if image is not None]
                replies = self.runtime.generate(
                    [self.request([image.pixels], task, n, _rendered_gsd_m(image)) for n, _, image in opened]
                )
                number += len(batch)
                for (_, name, image), reply in zip(opened, replies, strict=True):
                    yield self.answer(name, image, task, reply)

    def request(self, images: Sequence[np.ndarray], task: Task, index: int, gsd_m: float | None = None) -> Request:
        """Return the request for the model.

        Args:
            images: uint8 `(H, W, 3)`; several are of the same location.
            task: the task with its prompt.
            index: position among all requests; it seeds sampling.
            gsd_m: meters per pixel of the first image; None is unknown.
        """
        sampling = Sampling(self.temperature, self.seed, index) if self.temperature > 0 else None
        return Request(
            tuple(images), task.prompt, task.plain_options, task.answer_type, self.max_new_tokens, sampling,
            task.history, query=task.query, gsd_m=gsd_m,
        )  # fmt: skip

    def answer(self, name: str, image: GeoImage | None, task: Task, reply: Generation) -> Answer:
        """Convert a generation of the model to an `Answer`."""
        plain, options = task.plain_options, task.options
        text = capitalize_answer(reply.text) if options is None or plain is None else options[plain.index(reply.text)]
        boxes = [] if image is None else find_boxes(reply, image, task.label)
        if boxes and options is None and (task.answer_type == "boxes" or not reply.box_labels):
            text = f"{len(boxes)} box{'es' if len(boxes) > 1 else ''}"
        return Answer(
            image=name,
            question=task.question,
            answer=text,
            confidence=confidence_of(reply, task.long or bool(boxes), options is not None),
            boxes=boxes,
            rendering=_describe_rendering(image),
            model=self.runtime.name,
            out_of_distribution=reply.out_of_distribution,
        )


def confidence_of(reply: Generation, long: bool, is_option: bool) -> float | None:
    """Return the probability of a short answer or an option, and the mean over tokens of a long answer.

    The product over the tokens of a sentence says nothing: it is near 0 however sure the model is of each word.
    """
    long = long or (not is_option and len(reply.text.split()) > _MAX_SHORT_WORDS)
    return reply.mean_probability if long else reply.sequence_probability


class Chat:
    """A conversation about one image.

    Args:
        assistant: the model.
        image: its subject; None for text only.
        name: of the image in answers.
    """

    def __init__(self, assistant: Assistant, image: GeoImage | None, name: str) -> None:
        self.assistant, self.image, self.name = assistant, image, name
        self.answers: list[Answer] = []
        self._turns: list[tuple[str, str]] = []

    def ask(self, question: str, on_text: Callable[[str], None] | None = None) -> Answer:
        """Answer the next question; `on_text` receives the raw text of the answer as a stream."""
        task = tasks.ask_task(self.assistant.runtime.family, question, history=self._turns)
        images = [] if self.image is None else [self.image.pixels]
        gsd_m = None if self.image is None else _rendered_gsd_m(self.image)
        request = self.assistant.request(images, task, len(self.answers), gsd_m)
        reply = self.assistant.runtime.generate([request], on_text)[0]
        self._turns.append((task.prompt, reply.text))
        self.answers.append(self.assistant.answer(self.name, self.image, task, reply))
        return self.answers[-1]


def find_boxes(reply: Generation, image: GeoImage, label: str) -> list[AnswerBox]:
    """Return the boxes of a generation in pixels, each with its score or the mean probability of all tokens."""
    size = (image.width, image.height)
    xyxy = scale_boxes(reply.boxes, (1, 1), size)
    if not len(xyxy):
        return []
    scores: list[float | None] = list(reply.box_scores) or [reply.mean_probability] * len(xyxy)
    labels = reply.box_labels or [label] * len(xyxy)
    boxes = []
    for (x0, y0, x1, y1), score, name in zip(xyxy.tolist(), scores, labels, strict=True):
        ring = image.to_lonlat(np.array([[x0, y0], [x0, y1], [x1, y1], [x1, y0], [x0, y0]]))
        lonlat = None if ring is None or np.isnan(ring).any() else [tuple(p) for p in ring.tolist()]
        boxes.append(AnswerBox(label=name, xyxy=(x0, y0, x1, y1), lonlat=lonlat, confidence=score))
    return boxes


def _describe_rendering(image: GeoImage | None) -> Rendering:
    if image is None:
        return Rendering(bands=[], scaling="no image")
    height, width = image.pixels.shape[:2]
    return Rendering(
        bands=image.rendering.bands, scaling=image.rendering.scaling, size=(width, height),
        image_size=(image.width, image.height),
    )  # fmt: skip


def _rendered_gsd_m(image: GeoImage) -> float | None:
    """Return the meters per pixel of the rendered pixels."""
    return None if image.gsd_m is None else image.gsd_m * image.width / image.pixels.shape[1]


def capitalize_answer(text: str) -> str:
    """Capitalize the sentences and option letters of a lower-case answer."""
    text = text.strip()
    if text.endswith(".") and len(text) > 2:
        return re.sub(r"\bi\b", "I", text[0].upper() + text[1:])
    return text.upper() if len(text) == 1 and text.isalpha() else text

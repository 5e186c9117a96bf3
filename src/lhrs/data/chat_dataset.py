"""Conversion of conversations to token ids and labels. Only answers have labels for the loss."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers.utils.chat_template_utils import render_jinja_template

from lhrs.boxes import Size
from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.data.feature_cache import FeatureCache
from lhrs.data.turn_texts import box_text, insert_boxes
from lhrs.errors import ConfigError, DataError, ImageError
from lhrs.imagery.geo_image import GeoImage
from lhrs.imagery.image import open_image
from lhrs.schema import IMAGE_PLACEHOLDER, Box, Sample

IGNORE = -100
"""Label of positions that the loss ignores."""
_MAX_SIDE = 1024
"""Longer image sides are downsampled on reading, also in inference. All encoders have smaller inputs."""


@dataclass(frozen=True)
class ChatEncoder:
    """Turns samples into model inputs with a processor and a chat template.

    The template marks answers with `{% generation %}`. Only tokens that begin inside such a block have labels.
    """

    processor: Any
    """An `LHRSProcessor` with a fast tokenizer, which returns offsets."""
    template: str | None = None
    """Jinja text; None is the template of the processor."""
    system_prompt: str | None = None
    """System text for conversations without one."""
    max_tokens: int = 4096
    """Longer rows are truncated."""
    features: FeatureCache | None = None
    """Cache of encoder features of every image; rows then contain features instead of pixels."""
    box_style: str = "norm1"
    """Text format of boxes, see `lhrs.boxes.STYLES`; the model's answers are parsed in the same format."""

    def __post_init__(self) -> None:
        if "generation" not in (self._template or ""):
            raise ConfigError("the chat template does not mark answers with {% generation %}, which training needs.")
        if not self.processor.tokenizer.is_fast:
            raise ConfigError("the tokenizer returns no character offsets; use its fast version.")

    @property
    def _template(self) -> str | None:
        return self.template or self.processor.chat_template

    def encode(self, sample: Sample) -> dict[str, Any]:
        """Return `input_ids` and `labels` int64 `(T,)`, and `pixel_values` `(images, 3, H, W)` if there are images.

        With `features`, `image_levels` replaces pixels: for each level `(images, rows, columns, C)`.

        `labels` equals `input_ids` in answers, including their end token, and is -100 elsewhere.

        Raises:
            DataError: the sample has no labels, images and placeholders disagree, or boxes are invalid.
            ImageError: an image is missing or broken.
        """
        images = _read(sample.images if self.features is None else ())
        text, answers = self._render(sample, self._messages(sample, images), len(sample.images))
        ids, starts = self._tokenize(text)
        is_trained = np.zeros(len(ids), bool)
        for start, end in answers:
            is_trained |= (starts >= start) & (starts < end)
        if self.processor.image_token_id in ids[self.max_tokens :]:
            raise DataError(f"sample {sample.id!r}: max_tokens={self.max_tokens} is too small for its images.")
        ids, is_trained = ids[: self.max_tokens], is_trained[: self.max_tokens]
        if not is_trained.any():
            why = f"within max_tokens={self.max_tokens}" if answers else "(no assistant turn)"
            raise DataError(f"sample {sample.id!r} of {sample.source} has no answer to train on {why}.")
        labels = np.where(is_trained, ids, IGNORE)
        row = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}
        if self.features is not None and sample.images:
            return {**row, "image_levels": self.features.read(sample.images)}
        return {**row, **self._pixels(images)}

    def prompt(self, sample: Sample) -> dict[str, Tensor]:
        """Return the prompt before the first answer, as a batch of one for `generate`.

        Raises:
            DataError: see `encode`.
        """
        images = _read(sample.images)
        messages = self._messages(sample, images)
        roles = [message["role"] for message in messages]
        before = messages[: roles.index("assistant")] if "assistant" in roles else messages
        num_images = sum(part["type"] == "image" for message in before for part in message["content"])
        text, _ = self._render(sample, before, num_images, add_generation_prompt=True)
        ids = torch.from_numpy(self._tokenize(text)[0])[None]
        pixels = self._pixels(images[:num_images])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels}

    def render(self, sample: Sample) -> tuple[str, list[tuple[int, int]]]:
        """Return the text of a sample, a placeholder for every image token, and the spans of its answers in characters.

        Raises:
            DataError: see `encode`.
        """
        return self._render(sample, self._messages(sample, _read(sample.images)), len(sample.images))

    def texts(self, sample: Sample, images: Sequence[GeoImage] = ()) -> list[str]:
        """Return the text of each turn with its boxes, at their placeholders or after the text.

        Boxes are fractions of the whole first image, whatever the encoder crops. Answers are parsed in the same way.

        Args:
            sample: with turns.
            images: its images, if already open; otherwise the first is opened if there are boxes.

        Raises:
            DataError: boxes are invalid.
            ImageError: the image is missing or broken.
        """
        if not any(turn.boxes for turn in sample.turns):
            return [turn.text for turn in sample.turns]
        if not sample.images:
            raise DataError(f"sample {sample.id!r} of {sample.source} has boxes but no image.")
        first = images[0] if images else _read(sample.images[:1])[0]
        try:
            size = first.width, first.height
            return [insert_boxes(turn.text, turn.boxes, size, self._write_boxes) for turn in sample.turns]
        except ValueError as error:
            raise DataError(f"sample {sample.id!r} of {sample.source}: {error}.") from error

    def _write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        return box_text(boxes, size_wh, self.box_style)

    def _messages(self, sample: Sample, images: Sequence[GeoImage]) -> list[dict[str, Any]]:
        """Return turns in template format. Images are in the turn of their placeholder, else in the first question."""
        turns = sample.turns
        named = [turn.text.count(IMAGE_PLACEHOLDER) if turn.role == "user" else 0 for turn in turns]
        users = [n for n, turn in enumerate(turns) if turn.role == "user"]
        if not any(named) and sample.images:
            if not users:
                raise DataError(f"sample {sample.id!r} has images but no user turn to show them in.")
            named[users[0]] = len(sample.images)
        messages = []
        if self.system_prompt and not any(turn.role == "system" for turn in turns):
            messages.append({"role": "system", "content": [{"type": "text", "text": self.system_prompt}]})
        for turn, text, count in zip(turns, self.texts(sample, images), named, strict=True):
            if turn.role == "user":
                text = "\n".join(piece.strip() for piece in text.split(IMAGE_PLACEHOLDER) if piece.strip())
            content = [{"type": "image"}] * count + [{"type": "text", "text": text}]
            messages.append({"role": turn.role, "content": content})
        return messages

    def _render(
        self, sample: Sample, messages: list[dict[str, Any]], num_images: int, add_generation_prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the text with every placeholder repeated once per image token, and the spans of the answers."""
        rendered = render_jinja_template(
            [messages],
            chat_template=self._template,
            return_assistant_tokens_mask=True,
            add_generation_prompt=add_generation_prompt,
            **self.processor.tokenizer.special_tokens_map,
        )
        texts, spans = cast(tuple[list[str], list[list[tuple[int, int]]]], rendered)
        pieces = texts[0].split(self.processor.image_token)
        if len(pieces) - 1 != num_images:
            raise DataError(
                f"sample {sample.id!r} of {sample.source} has {num_images} images but its conversation has "
                f"{len(pieces) - 1} places for them ({self.processor.image_token})."
            )
        expanded = self.processor.image_token * self.processor.num_image_tokens
        grown = len(expanded) - len(self.processor.image_token)
        ends = np.cumsum([len(piece) + len(self.processor.image_token) for piece in pieces[:-1]])

        def moved(at: int) -> int:
            return at + grown * int((ends <= at).sum())

        answers = np.array(spans[0], np.int64).reshape(-1, 2).tolist()
        return expanded.join(pieces), [(moved(start), moved(end)) for start, end in answers]

    def _tokenize(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and their start offsets in characters. The template already contains all special tokens."""
        encoded = self.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = [start for start, _ in encoded["offset_mapping"]]
        return np.array(encoded["input_ids"], np.int64), np.array(starts, np.int64)

    def _pixels(self, images: Sequence[GeoImage]) -> dict[str, Tensor]:
        if not images:
            return {}
        pixels = [image.pixels for image in images]
        return {"pixel_values": self.processor.image_processor(images=pixels, return_tensors="pt")["pixel_values"]}


def _read(paths: Sequence[str]) -> list[GeoImage]:
    try:
        return [open_image(path, _MAX_SIDE) for path in paths]
    except DataError as error:
        raise ImageError(str(error)) from error


_LETTERS_PER_TOKEN = 4
_LETTERS_PER_BOX = 30


class ChatDataset(Dataset):
    """The concatenated samples of several sources, indexed by `(epoch, index)` keys.

    A sample whose image is missing or broken is replaced by another one of its source, which depends on seed, epoch and
    index only.

    Args:
        sources: readers of `lhrs.data.datasets`, or any sequences of samples.
        weights: one per source; see `lhrs.training.trainer.WeightedLengthSampler`.
        encoder: encodes samples as rows.
        group_by_length: measure all samples, so that the trainer can batch samples of similar length.
        seed: of replacements.
        max_unreadable: fraction of samples that may be replaced.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Sample]],
        weights: Sequence[float],
        encoder: ChatEncoder,
        group_by_length: bool = False,
        seed: int = 0,
        max_unreadable: float = 0.0,
    ) -> None:
        self.sources, self.encoder, self.seed, self.max_unreadable = sources, encoder, seed, max_unreadable
        self.ends = np.cumsum([len(source) for source in sources])
        self.weights = np.repeat(np.array(weights, np.float64), [len(source) for source in sources])
        self.lengths = (
            np.array([self._length(sample) for source in sources for sample in source]) if group_by_length else None
        )
        self.unreadable = torch.zeros(len(self), dtype=torch.bool).share_memory_()
        """Samples that were replaced, `(samples,)`; the processes that read data share it."""

    def __len__(self) -> int:
        return int(self.ends[-1])

    def sample(self, index: int) -> Sample:
        """Return a sample of all sources, counted from 0."""
        source, start = self._source(index)
        return self.sources[source][index - start]

    def _source(self, index: int) -> tuple[int, int]:
        """Return the number of the source of a sample, and the index of the source's first sample."""
        source = int(np.searchsorted(self.ends, index, side="right"))
        return source, int(self.ends[source - 1]) if source else 0

    def _length(self, sample: Sample) -> float:
        """Return an estimate of a sample's number of tokens, without tokenizing it."""
        letters = sum(len(turn.text) + _LETTERS_PER_BOX * len(turn.boxes) for turn in sample.turns)
        return letters / _LETTERS_PER_TOKEN + self.encoder.processor.num_image_tokens * len(sample.images)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return the row of a sample, see `ChatEncoder.encode`.

        Raises:
            DataError: the sample is invalid, or too many images are missing or broken.
        """
        source, start = self._source(key[1])
        rng, index = None, key[1]
        while True:
            try:
                return self.encoder.encode(self.sample(index))
            except ImageError as error:
                self._leave_out(index, error, self.unreadable[start : self.ends[source]])
            rng = rng or sample_rng(self.seed, key)
            index = int(rng.integers(start, self.ends[source]))

    def _leave_out(self, index: int, error: ImageError, of_source: Tensor) -> None:
        new = not self.unreadable[index]
        self.unreadable[index] = True
        count = int(self.unreadable.sum())
        if count > math.ceil(self.max_unreadable * len(self)) or of_source.all():
            raise DataError(
                f"{count} of {len(self)} samples have images that cannot be read, more than max_unreadable="
                f"{self.max_unreadable:g} allows; `lhrs data lint` lists them. The last: {error}"
            ) from error
        if new:
            print(f"replaced by another sample: {error}", file=sys.stderr)

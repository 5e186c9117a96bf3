"""Checks of data before training.

Mistakes of a whole source, such as boxes in another convention, are reported once. They are judged statistically: which
convention makes the boxes fit their images. Everything else is reported per sample.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from lhrs import fingerprint
from lhrs.boxes import Size, xywh_to_xyxy, xyxy_to_xywh
from lhrs.data.boxes import TOLERANCE_PX, check_boxes, overshoot_px
from lhrs.data.turn_texts import find_placeholder_fault
from lhrs.errors import DataError
from lhrs.imagery import locations, open_image
from lhrs.imagery.pillow_reader import verify_checksums
from lhrs.schema import Box, Sample

CODES = {
    "unreadable": "the sample does not fit the schema",
    "duplicate-id": "two samples of a source have the same id",
    "duplicate": "two samples have the same images and the same turns",
    "split-leak": "the same image is in two splits",
    "role-order": "turns do not alternate from user to assistant",
    "empty-answer": "an assistant turn is empty",
    "placeholders": "the texts have another number of <image> than the sample has images",
    "missing-image": "an image file does not exist",
    "broken-image": "an image cannot be decoded to its end",
    "boxes-xywh": "a source's boxes are x, y, width, height, not xyxy",
    "boxes-converted-twice": "a source's boxes were xyxy already when they were converted from x, y, width, height",
    "boxes-swapped": "a source's boxes are y, x, y, x",
    "boxes-scale": "a source's boxes are 0-1, 0-100 or 0-1000, not pixels",
    "boxes-unfit": "many of a source's boxes leave their images, and no convention explains it",
    "box-reversed": "x2 < x1 or y2 < y1",
    "box-empty": "a box has an area of less than one pixel",
    "box-outside": "a box leaves the image; a warning up to 5 % of the side, an error beyond",
}
"""The codes of findings."""


class Finding(BaseModel):
    """A mistake in a sample, or in a whole source."""

    model_config = ConfigDict(frozen=True)

    code: str
    """One of `CODES`."""
    severity: Literal["error", "warning"]
    sample: str | None
    """Id of the sample; None for a whole source or a sample that cannot be read."""
    message: str


def lint(
    samples: Sequence[Sample], check_images: bool = True, advance: Callable[[], object] | None = None
) -> list[Finding]:
    """Return the findings: sample by sample, then those about boxes.

    Args:
        samples: Read once, in order; one that raises DataError is a finding.
        check_images: Decode every image. If False, no file is read: images are identified by path, and boxes are not
            compared with the size of their image.
        advance: Called after each sample.
    """
    findings: list[Finding] = []
    images, repeats, boxes = _Images(check_images), _Repeats(), _Boxes()
    for index in range(len(samples)):
        try:
            sample = samples[index]
        except DataError as error:
            findings.append(Finding(code="unreadable", severity="error", sample=None, message=str(error)))
        else:
            findings += _check_turns(sample)
            findings += images.check(sample)
            findings += repeats.check(sample, [images.digest(path) for path in sample.images])
            boxes.add(sample, images.size(sample.images[0]) if sample.images else None)
        if advance is not None:
            advance()
    return findings + list(boxes.check())


def _error(code: str, sample: Sample, message: str) -> Finding:
    return Finding(code=code, severity="error", sample=sample.id, message=message)


def _check_turns(sample: Sample) -> Iterator[Finding]:
    roles = [turn.role for turn in sample.turns]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    expected = [("user", "assistant")[i % 2] for i in range(len(spoken))]
    if spoken != expected:
        yield _error("role-order", sample, f"turns are {', '.join(roles)}; expected user and assistant in turn.")
    for number, turn in enumerate(sample.turns, 1):
        if turn.role == "assistant" and not turn.text.strip():
            yield _error("empty-answer", sample, f"turn {number} of {len(roles)}, the assistant's, is empty.")
    fault = find_placeholder_fault(sample.turns, len(sample.images))
    if fault is not None:
        yield _error("placeholders", sample, fault)


class _Images:
    """Opens every file once; keeps its content hash and its size."""

    def __init__(self, check: bool) -> None:
        self._check = check
        self._seen: dict[str, tuple[str | None, Size | None]] = {}

    def check(self, sample: Sample) -> Iterator[Finding]:
        """Check the sample's images; a bad file is reported for the first sample that uses it."""
        for path in dict.fromkeys(sample.images):
            if not self._check or path in self._seen:
                continue
            self._seen[path] = (None, None)
            if not locations.exists(path):
                yield _error("missing-image", sample, f"{path} does not exist.")
                continue
            try:
                digest = _digest(path)
                self._seen[path] = (digest, None)
                self._seen[path] = (digest, _decode(path))
            except (DataError, OSError) as error:
                yield _error("broken-image", sample, str(error))

    def digest(self, path: str) -> str:
        """Return the hash of the image's content, or its path if it was not read."""
        return self._seen.get(path, (None, None))[0] or path

    def size(self, path: str) -> Size | None:
        return self._seen.get(path, (None, None))[1]


def _digest(path: str) -> str:
    """Return a hash of the content of a file, a folder of bands, or a part of a file; of other names, the name."""
    if os.path.isfile(path):
        return fingerprint.sha256_of_file(path)
    if locations.is_part_of_file(path):
        with locations.open_binary(path) as file:
            return fingerprint.sha256_of_bytes(file.read())
    return fingerprint.of_file(path, content=True)


def _decode(path: str) -> Size:
    """Decode all of an image and return its (width, height).

    Raises:
        DataError: It is broken or cut off.
    """
    opened = open_image(path)
    if not os.path.isdir(path):
        verify_checksums(path)
    return opened.width, opened.height


class _Repeats:
    """Finds ids, images and conversations that repeat."""

    def __init__(self) -> None:
        self._ids: set[tuple[str, str]] = set()
        self._conversations: dict[str, str] = {}
        self._splits: dict[str, dict[str, str]] = defaultdict(dict)

    def check(self, sample: Sample, digests: list[str]) -> Iterator[Finding]:
        if (sample.source, sample.id) in self._ids:
            yield _error("duplicate-id", sample, f"{sample.source} has another sample with this id.")
        self._ids.add((sample.source, sample.id))
        turns = [(turn.role, turn.text) for turn in sample.turns]
        key = fingerprint.sha256_of_bytes(repr((digests, turns)).encode())
        first = self._conversations.setdefault(key, sample.id)
        if first != sample.id:
            message = f"same images and turns as {first}."
            yield Finding(code="duplicate", severity="warning", sample=sample.id, message=message)
        for path, digest in zip(sample.images, digests, strict=True):
            splits = self._splits[digest]
            if sample.split is not None and sample.split not in splits:
                splits[sample.split] = sample.id
                if len(splits) > 1:
                    other, first_id = next(iter(splits.items()))
                    yield _error("split-leak", sample, f"{path} is in {sample.split}, and in {other} as {first_id}.")


_MAX_CARELESS = 0.05
"""Fraction of the image's side up to which an overshoot is a warning."""
_MIN_BOXES = 3
"""Minimum number of boxes for a finding about a whole source."""
_MIN_FITTING = 0.98
"""Minimum fraction of boxes that fit under the right convention."""
_MAX_LEAVING = 0.1
"""Fraction of boxes outside their images from which the whole source is reported."""
_MIN_PROBABILITY = 1e-6
"""Probability of the observed boxes, if they were pixels, below which they are not."""


def _swap_axes(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, [1, 0, 3, 2]]


_CONVENTIONS: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("boxes-xywh", "x, y, width, height", xywh_to_xyxy),
    ("boxes-swapped", "y1, x1, y2, x2", _swap_axes),
    ("boxes-converted-twice", "xyxy that was converted from x, y, width, height without being so", xyxy_to_xywh),
)


class _Boxes:
    """Collects all boxes with the sizes of their images, then judges each source as a whole."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[Sample, Box, Size | None]]] = defaultdict(list)

    def add(self, sample: Sample, size: Size | None) -> None:
        for box in [*sample.boxes, *(box for turn in sample.turns for box in turn.boxes)]:
            self._rows[sample.source].append((sample, box, size))

    def check(self) -> Iterator[Finding]:
        for source, rows in self._rows.items():
            boxes = np.array([box.xyxy for _, box, _ in rows], np.float64)
            sizes = np.array([size or (np.nan, np.nan) for *_, size in rows], np.float64)
            whole = _judge(boxes, sizes, np.array([sample.images[0] if sample.images else "" for sample, *_ in rows]))
            if whole is not None:
                code, message = whole
                yield Finding(code=code, severity="error", sample=None, message=f"{source}: {message}")
            else:
                yield from _check_each(rows, boxes, sizes)


def _judge(boxes: np.ndarray, sizes: np.ndarray, images: np.ndarray) -> tuple[str, str] | None:
    """Return code and message of the convention of all boxes of a source, or None for xyxy pixels.

    Args:
        boxes: float64 `(N, 4)` as annotated.
        sizes: float64 `(N, 2)` width, height of each box's image; NaN where unknown.
        images: str `(N,)`, each box's image.
    """
    if 0 < np.abs(boxes).max() <= 1 + _MAX_CARELESS:
        return "boxes-scale", f"no coordinate of {len(boxes):,} boxes is above 1: they are 0-1, not pixels."
    known = np.isfinite(sizes[:, 0])
    boxes, sizes, images = boxes[known], sizes[known], images[known]
    if not len(boxes):
        return None
    fits = _fits(boxes, sizes)
    for code, meaning, convert in _CONVENTIONS:
        read = _fits(convert(boxes), sizes)
        # Under a wrong convention, many correct boxes exceed the image, so a small number is evidence.
        won, lost = (read & ~fits).sum(), (fits & ~read).sum()
        if won >= max(_MIN_BOXES, 20 * lost) and read.mean() >= _MIN_FITTING:
            misfits = f"{(~fits).sum():,} of {len(boxes):,} boxes do not fit their image as xyxy"
            return code, f"{misfits}; as {meaning}, {read.mean():.0%} do."
    leaves = (overshoot_px(boxes, sizes) > _MAX_CARELESS * sizes).any(1)
    unfit = f"{leaves.mean():.0%} of {len(boxes):,} boxes leave their image"
    for scale in (100, 1000):
        if boxes.min() >= 0 and scale / 2 <= boxes.max() <= scale * 1.01:
            read = _fits(boxes / scale * np.tile(sizes, 2), sizes)
            if leaves.mean() >= _MAX_LEAVING and read.mean() >= _MIN_FITTING:
                return "boxes-scale", f"{unfit}, none leaves 0-{scale}; or the images are smaller than when annotated."
            if _probability_below(scale, sizes, images) < _MIN_PROBABILITY:
                return "boxes-scale", f"all {len(boxes):,} boxes are within 0-{scale}, however large their images are."
    if leaves.mean() >= _MAX_LEAVING and leaves.sum() >= 3 * _MIN_BOXES:
        reach = (boxes[:, 2:] / sizes).max()
        return "boxes-unfit", f"{unfit}, the worst reaches {reach:.1f} times its side; were the images resized?"
    return None


def _fits(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return bool `(N,)`: has area and is inside its image."""
    is_inside = np.all(overshoot_px(boxes, sizes) <= TOLERANCE_PX, axis=1)
    return is_inside & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)


def _probability_below(limit: float, sizes: np.ndarray, images: np.ndarray) -> float:
    """Return the probability that one box per image, anywhere on it, ends within the first `limit` pixels."""
    _, first = np.unique(images, return_index=True)
    return float(np.minimum(1, limit / sizes[first]).prod())


def _check_each(
    rows: Sequence[tuple[Sample, Box, Size | None]], boxes: np.ndarray, sizes: np.ndarray
) -> Iterator[Finding]:
    """Yield one finding per sample and code."""
    faults = check_boxes(boxes, sizes)
    overshoot = overshoot_px(boxes, sizes)  # NaN where the size is unknown: no comparison holds
    is_careless = ~np.any(overshoot > _MAX_CARELESS * sizes, axis=1)
    hints = {
        "box-reversed": (_fits(xywh_to_xyxy(boxes), sizes), "fits as x, y, width, height"),
        "box-empty": ((boxes.max(1) > 0) & (boxes.max(1) <= 1), "fits as 0-1"),
        "box-outside": (_fits(_swap_axes(boxes), sizes), "fits as y1, x1, y2, x2"),
    }
    for code, wrong in (("box-reversed", faults.reversed), ("box-empty", faults.empty), ("box-outside", faults.leaves)):
        by_sample: dict[int, list[int]] = defaultdict(list)
        for i in np.flatnonzero(wrong).tolist():
            by_sample[id(rows[i][0])].append(i)
        for indices in by_sample.values():
            sample, box, size = rows[indices[0]]
            fits, reading = hints[code]
            hint = f", {reading}" if fits[indices].all() else ""
            place = f" of an image of {size[0]} x {size[1]}" if size else ""
            count = "1 box" if len(indices) == 1 else f"{len(indices)} boxes"
            message = f"{count}{place}, first {box.label!r} {[round(v, 2) for v in box.xyxy]}{hint}."
            is_warning = code == "box-outside" and is_careless[indices].all()
            yield Finding(code=code, severity="warning" if is_warning else "error", sample=sample.id, message=message)

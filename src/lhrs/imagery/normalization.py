"""Normalization of pixel values for networks. It is fitted to images and saved with the model."""

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from lhrs.errors import DataError

DtypeKind = Literal["uint8", "integer", "float"]
REFLECTANCE_MAX = 10_000.0
"""The integer that means a reflectance of 1 in the products of most providers."""
_UNIT_RANGE = 2.0
"""Upper bound of reflectance: clouds and glint slightly exceed 1."""
_NUM_RANGE_SAMPLES = 4
"""Number of images whose range determines `max_value`."""
_MIN_VARIANCE = 1e-6
_MAX_CLIPPED = 0.5
"""Maximum fraction of values outside 0-1; `max_value` is rejected above it."""

Sample = tuple[np.ndarray, np.ndarray | None, str]
"""Raw values `(B, H, W)`, their validity `(B, H, W)` or None if all are valid, and a name for messages."""


class Normalization(BaseModel):
    """Divides raw values by `max_value`, then standardizes per band. Invalid pixels become 0, the mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bands: tuple[PositiveInt, ...] | None = None
    """Bands of a file to read, 1-based; None is all."""
    max_value: PositiveFloat
    """The raw value that means 1."""
    mean: tuple[float, ...] = Field(min_length=1)
    """Per band, of values divided by `max_value`."""
    std: tuple[PositiveFloat, ...]
    dtype: DtypeKind | None = None
    """Kind of the raw values; None is unknown, and files are not checked."""

    @model_validator(mode="after")
    def _has_one_value_per_band(self) -> "Normalization":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} bands, std {len(self.std)}")
        if self.bands is not None and len(self.bands) != len(self.mean):
            raise ValueError(f"{len(self.bands)} bands are read, mean and std are of {len(self.mean)}")
        return self

    @property
    def is_rgb(self) -> bool:
        """Whether the input is 8-bit RGB; any file can be rendered as such."""
        return self.bands is None and self.max_value == 255 and len(self.mean) == 3 and self.dtype in ("uint8", None)

    @property
    def fill_values(self) -> np.ndarray:
        """Return float32 `(B,)`: the raw values that become 0."""
        return np.array(self.mean, np.float32) * np.float32(self.max_value)

    def __call__(self, values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Return float32 `(B, H, W)`: standardized values, 0 where they are invalid.

        Args:
            values: raw `(B, H, W)`.
            valid: bool `(B, H, W)` or `(H, W)`; None is all finite values.
        """
        return self.standardize(self.scale(values, valid))

    def scale(self, values: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Return float32 `(B, H, W)` of about 0-1, the mean where values are invalid; see `__call__`."""
        scaled = np.ascontiguousarray(values, np.float32) / np.float32(self.max_value)
        usable = np.isfinite(scaled) if valid is None else valid & np.isfinite(scaled)
        if usable.all():
            return scaled
        return np.where(usable, scaled, np.array(self.mean, np.float32)[:, None, None])

    def standardize(self, pixels: np.ndarray) -> np.ndarray:
        """Return `(..., B, H, W)` of mean 0 and standard deviation 1, of what `scale` returns."""
        mean, std = (np.array(x, np.float32)[:, None, None] for x in (self.mean, self.std))
        return (pixels - mean) / std

    def check(self, values: np.ndarray, name: object) -> None:
        """Raise DataError if raw values `(B, H, W)` are not of the kind of this normalization.

        Args:
            values: as stored in the file.
            name: of the file, for the message.
        """
        if len(values) != len(self.mean):
            raise DataError(
                f"{name} has {len(values)} bands, {len(self.mean)} are needed; a model reads the bands that it was "
                "trained on (data.bands)."
            )
        kind = dtype_kind(values.dtype)
        if self.dtype is None or kind == self.dtype:
            return
        if "uint8" in (kind, self.dtype):
            needed = "8 bits" if self.dtype == "uint8" else "more than 8 bits"
            raise DataError(f"{name} has values of {values.dtype}, the training images have {needed}.")
        if self.dtype == "integer" and _is_unit_float(values):
            raise DataError(f"{name} has floats of 0-1, the training images have integers up to {self.max_value:g}.")
        if self.dtype == "float" and self.max_value <= _UNIT_RANGE and values.max(initial=0) > 100:
            raise DataError(f"{name} has integers up to {values.max()}, the training images have floats of 0-1.")

    @classmethod
    def fit(
        cls,
        samples: Iterable[Sample],
        bands: Iterable[int] | None = None,
        max_value: float | None = None,
        clip: bool = False,
    ) -> "Normalization":
        """Return the normalization of images: mean and standard deviation per band, with equal weight for each image.

        Args:
            samples: images, of the bands that are read.
            bands: their indices, 1-based; None is all.
            max_value: None applies `default_max_value` to the first images.
            clip: clip values to 0-1, as augmentation does.

        Raises:
            DataError: images differ in their bands, have no data, or, with `clip`, are mostly outside 0-1.
        """
        means: list[np.ndarray] = []
        squares: list[np.ndarray] = []
        outside: list[float] = []
        rest = iter(samples)
        head = list(islice(rest, _NUM_RANGE_SAMPLES))
        if not head:
            raise DataError("there is no image to fit a normalization to.")
        dtype, first = dtype_kind(head[0][0].dtype), head[0][2]
        max_value = max_value or default_max_value(head)
        for values, valid, name in chain(head, rest):
            if means and len(means[0]) != len(values):
                raise DataError(f"{name} has {len(values)} bands, others have {len(means[0])}; choose with data.bands.")
            flat = values.reshape(len(values), -1).astype(np.float64) / max_value
            usable = np.isfinite(flat) if valid is None else np.isfinite(flat) & valid.reshape(flat.shape)
            flat[~usable] = np.nan
            if clip:
                outside.append(float(((flat < 0) | (flat > 1)).sum() / max(usable.sum(), 1)))
                flat = flat.clip(0, 1)
            count = np.where(usable.any(1), usable.sum(1), np.nan)
            means.append(np.nansum(flat, 1) / count)
            squares.append(np.nansum(flat**2, 1) / count)
        if np.isnan(means).all(0).any():
            raise DataError(f"{first} and the others have no data in one of their bands.")
        if outside and np.mean(outside) > _MAX_CLIPPED:
            raise DataError(
                f"{np.mean(outside):.0%} of the values of {first} and the others are outside of 0 to {max_value:g}: "
                "set data.max_value to the value that means 1."
            )
        mean = np.nanmean(means, 0)
        std = np.sqrt((np.nanmean(squares, 0) - mean**2).clip(min=_MIN_VARIANCE))
        return cls(
            bands=None if bands is None else tuple(bands), max_value=float(max_value), mean=tuple(mean.tolist()),
            std=tuple(std.tolist()), dtype=dtype,
        )  # fmt: skip


def dtype_kind(dtype: np.dtype) -> DtypeKind:
    """Return the kind of a file's raw values."""
    return "uint8" if dtype == np.uint8 else "float" if dtype.kind == "f" else "integer"


def default_max_value(samples: Sequence[Sample]) -> float:
    """Return the raw value that means 1, for files without metadata about it.

    It is 255 for uint8, and 10,000 (reflectance) for other integers. For floats it is 1, unless they are integers that
    were saved as floats: then it is 10,000 if values reach into the thousands, and 255 if they are whole numbers.
    """
    kind = dtype_kind(samples[0][0].dtype)
    if kind != "float":
        return 255.0 if kind == "uint8" else REFLECTANCE_MAX
    usable = np.concatenate([x[np.isfinite(x) if valid is None else np.isfinite(x) & valid] for x, valid, _ in samples])
    if not usable.size or usable.min() < 0 or usable.max() <= _UNIT_RANGE:
        return 1.0
    if np.percentile(usable, 98) > REFLECTANCE_MAX / 10:
        return REFLECTANCE_MAX
    return 255.0 if usable.max() <= 255 and _is_whole(usable) else 1.0


def _is_whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


def _is_unit_float(values: np.ndarray) -> bool:
    usable = values[np.isfinite(values)]
    return usable.size > 0 and usable.min() >= -_UNIT_RANGE and usable.max() <= _UNIT_RANGE and not _is_whole(usable)

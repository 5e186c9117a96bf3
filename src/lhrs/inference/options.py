"""Options of a model: how it is loaded, what it reads and how long its answers are."""

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from lhrs.errors import ConfigError

DTYPES = ("float32", "float16", "bfloat16")
BITS = ("8bit", "4bit")
ASKING = ("max_new_tokens", "system", "family")
"""Options that every model obeys which writes its answers as text."""
READING = ("image_size", "max_pixels")
"""Options of models that read images of any size."""
LOADING = ("dtype", "quantize", "revision")
"""Options of models that are loaded by torch."""


@dataclass(frozen=True)
class ModelOptions:
    """Options of `lhrs.load`; None is the model's own.

    Raises:
        ConfigError: a value is not allowed.
    """

    max_new_tokens: int | None = None
    """Maximum length of an answer in tokens."""
    system: str | None = None
    """System message, instead of that of the model's family."""
    dtype: str | None = None
    """Precision of the weights, one of `DTYPES`."""
    quantize: str | None = None
    """Precision of the matrices of the language model, one of `BITS` (bitsandbytes)."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""
    image_size: int | None = None
    """Longest side in pixels of an image that the model reads; larger images are reduced."""
    max_pixels: int | None = None
    """Maximum number of pixels of an image that the model reads; larger images are reduced."""
    family: str | None = None
    """Name of a model family, or a family file (.yaml), see `lhrs.inference.family_file`."""

    def __post_init__(self) -> None:
        for name, known in (("dtype", DTYPES), ("quantize", BITS)):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ConfigError(f"{_flag(name)} is one of {', '.join(known)}, not {value!r}.")
        for name in ("max_new_tokens", *READING):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{_flag(name)} is {value}, not a number above 0.")

    @property
    def given(self) -> dict[str, Any]:
        """Options that are not None, by their names."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def arguments(self) -> list[str]:
        """The options as arguments of a command."""
        return [f"{_flag(name)}={value}" for name, value in self.given.items()]

    def require(self, obeyed: Collection[str], model: str) -> None:
        """Refuse options that a model cannot obey.

        Args:
            obeyed: names of the options that it obeys.
            model: the subject of the message, such as "the embedded model".

        Raises:
            ConfigError: another option is given.
        """
        refused = [_flag(name) for name in self.given if name not in obeyed]
        if refused:
            raise ConfigError(f"{model} does not take {' or '.join(refused)}.")

    def reduce(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 `(H, W, 3)` pixels within `image_size` and `max_pixels`, with the same aspect ratio."""
        from PIL import Image

        height, width = pixels.shape[:2]
        scale = min(
            1.0,
            (self.image_size or math.inf) / max(width, height),
            math.sqrt((self.max_pixels or math.inf) / (width * height)),
        )
        if scale == 1:
            return pixels
        size = max(1, math.floor(width * scale + 1e-9)), max(1, math.floor(height * scale + 1e-9))
        return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")

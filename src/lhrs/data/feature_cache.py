"""Cache of a frozen encoder's features in a folder: they are computed once, not once per epoch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from lhrs import fingerprint
from lhrs.atomic_io import save_safetensors
from lhrs.errors import ImageError


@dataclass(frozen=True)
class FeatureCache:
    """A folder with one file per image.

    An image that changes on disk gets a new file. Another encoder or preprocessing requires another folder.
    """

    folder: Path

    def file(self, image: str) -> Path:
        """Return the path of an image's features.

        Raises:
            ImageError: there is no such image.
        """
        if not os.path.exists(image):
            raise ImageError(f"{image} does not exist.")
        name = fingerprint.of_file(image)
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def missing(self, images: Sequence[str]) -> list[str]:
        """Return the distinct images without cached features."""
        return [image for image in dict.fromkeys(images) if not self.file(image).exists()]

    def read(self, images: Sequence[str]) -> list[Tensor]:
        """Return each level of some images, `(images, rows, columns, C)`.

        Raises:
            ImageError: an image is missing, or could not be read when features were computed.
        """
        if unread := self.missing(images):
            raise ImageError(f"{unread[0]} has no features: it could not be read.")
        files = [load_file(self.file(image)) for image in images]
        return [torch.stack([file[name] for file in files]) for name in sorted(files[0])]

    def write(self, image: str, levels: Sequence[Tensor]) -> None:
        """Save the levels of an image, each `(rows, columns, C)`, atomically."""
        save_safetensors(self.file(image), {f"level_{n:02}": level for n, level in enumerate(levels)})

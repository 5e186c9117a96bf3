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
from lhrs.errors import DataError


@dataclass(frozen=True)
class FeatureCache:
    """A folder with one file per image.

    An image that changes on disk gets a new file. Another encoder or preprocessing requires another folder.
    """

    folder: Path

    def file(self, image: str) -> Path:
        """Return the path of an image's features.

        Raises:
            DataError: there is no such image.
        """
        if not os.path.exists(image):
            raise DataError(f"{image} does not exist.")
        name = fingerprint.of_file(image)
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def missing(self, images: Sequence[str]) -> list[str]:
        """Return the distinct images without cached features."""
        return [image for image in dict.fromkeys(images) if not self.file(image).exists()]

    def read(self, images: Sequence[str]) -> Tensor:
        """Return `(images, levels * N, C)`."""
        return torch.stack([load_file(self.file(image))["levels"] for image in images])

    def write(self, image: str, levels: Tensor) -> None:
        """Save `(levels * N, C)` of an image, atomically."""
        save_safetensors(self.file(image), {"levels": levels})

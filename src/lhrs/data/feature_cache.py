"""What a frozen encoder makes of each image, kept in a folder: it is computed once, not once an epoch."""

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
    """One file an image.

    An image that changes on disk gets a new file; another encoder or preprocessing must get another folder.
    """

    folder: Path

    def file(self, image: str) -> Path:
        """Return where the features of an image lie.

        Raises:
            DataError: there is no such image.
        """
        if not os.path.exists(image):
            raise DataError(f"{image} does not exist.")
        name = fingerprint.of_file(image)
        return self.folder / name[:2] / f"{name[2:]}.safetensors"

    def missing(self, images: Sequence[str]) -> list[str]:
        """Return those images, each once, that have no features yet."""
        return [image for image in dict.fromkeys(images) if not self.file(image).exists()]

    def read(self, images: Sequence[str]) -> Tensor:
        """Return `(images, levels * N, C)`."""
        return torch.stack([load_file(self.file(image))["levels"] for image in images])

    def write(self, image: str, levels: Tensor) -> None:
        """Keep `(levels * N, C)` of an image; a reader sees all of it or nothing."""
        save_safetensors(self.file(image), {"levels": levels})

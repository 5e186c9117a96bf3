"""Shared code of the two ISPRS datasets."""

from pathlib import Path

import numpy as np

from lhrs.data.mask_dataset import MaskDataset, MaskItem, colors_to_classes

_COLORS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)]


class Isprs(MaskDataset):
    """Color-coded masks. Clutter (red) and the black boundaries of eroded labels are ignored, as in the benchmark."""

    homepage = "https://www.isprs.org/education/benchmarks/UrbanSemLab/semantic-labeling.aspx"
    license = "research use only (ISPRS)"
    download_hint = "Request it at its homepage; the benchmark does not allow a program to download it."
    classes = ("impervious surface", "building", "low vegetation", "tree", "car")
    mask_folders: tuple[str, ...]
    """Mask folders in order of preference. The benchmark uses the masks with eroded boundaries."""

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return colors_to_classes(values, _COLORS)

    def pair(self, images: list[tuple[Path, str]], names: list[str]) -> list[MaskItem]:
        """Return items of the images, each with its split, that have a mask; `names` are the masks' file names."""
        mask_folders = [p for name in self.mask_folders for p in sorted(self.root.rglob(name)) if p.is_dir()]
        folders, items = mask_folders or [self.root], []
        for (image, split), name in zip(images, names, strict=True):
            stem, suffix = name.rsplit(".", 1)
            mask = next((p for f in folders for p in (f / name, f / f"{stem}_noBoundary.{suffix}") if p.exists()), None)
            if mask is not None and mask != image:
                items.append(MaskItem(image.stem, ((image,),), mask, split))
            else:
                self.drop("images without a mask", image.name)
        return items

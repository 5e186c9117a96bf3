"""Fingerprints of training data, which bind a run to its data.

Files are identified by relative path and by `lhrs.fingerprint.of_files`, so a data folder may be moved as a whole
without renaming it. Labels are identified by their content.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from lhrs import fingerprint
from lhrs.data.mask_dataset import MaskItem
from lhrs.data.unlabeled import TarMember, UnlabeledWindows
from lhrs.downstream.labeled_dataset import LabeledDataset
from lhrs.schema import Sample


def of_samples(name: str, path: Path, samples: Iterable[Sample]) -> dict[str, str]:
    """Return fingerprints of the images and texts of conversations.

    Args:
        name: distinguishes several datasets.
        path: path of the data.
        samples: all samples.
    """
    root = _root([path])
    relative = fingerprint.relative_to(root)
    files: set[str] = set()
    labels = {}
    for sample in samples:
        files.update(sample.images)
        images = [relative(image).encode() for image in sample.images]
        content = sample.model_dump_json(include={"labels", "turns"}).encode()
        labels[f"{name}: labels of {sample.id}"] = fingerprint.of_bytes(content, *images)
    return {**_files(name, files, root), **labels}


def of_labeled(name: str, path: Path, labeled: LabeledDataset) -> dict[str, str]:
    """Return fingerprints of labeled images and of their labels; see `of_samples`."""
    root = _root([path])
    files = {os.fspath(file) for item in labeled.items for date in item.images for file in date}
    files |= {os.fspath(item.label) for item in labeled.items if isinstance(item.label, Path)}
    labels = {
        f"{name}: labels of {item.id}": fingerprint.of_config(
            [item.label, [[o.label, o.points.tolist(), o.difficult] for o in item.objects]]
        )
        for item in labeled.items
        if not isinstance(item.label, Path)
    }
    classes = {f"{name}: classes": fingerprint.of_config(list(labeled.classes))}
    return {**_files(name, files, root), **labels, **classes}


def of_masks(name: str, path: Path, items: Iterable[MaskItem]) -> dict[str, str]:
    """Return fingerprints of images and their mask files; see `of_samples`."""
    files = {os.fspath(file) for item in items for date in (*item.images, (item.mask,)) for file in date}
    return _files(name, files, _root([path]))


def of_windows(paths: Iterable[Path], windows: UnlabeledWindows) -> dict[str, str]:
    """Return fingerprints of images without labels, or of the tar files that contain them."""
    files = {os.fspath(p.file.shard if isinstance(p.file, TarMember) else p.file) for p in windows.places}
    return _files("data", files, _root(paths))


def _root(paths: Iterable[Path]) -> str:
    root = os.path.commonpath([os.path.abspath(path) for path in paths])
    return root if os.path.isdir(root) else os.path.dirname(root)


def _files(name: str, files: Iterable[str], root: str) -> dict[str, str]:
    return {f"{name}: {path}": value for path, value in fingerprint.of_files(files, root).items()}

"""Probes of frozen features: nearest neighbors, linear classifier, linear segmenter, effective rank.

Features are the last feature map, averaged for image-level probes. The strength of regularization is selected on a
fifth of the training data, never on test data.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.cmid.backbone import to_feature_map
from lhrs.data.datasets.image_folder import ImageFolder
from lhrs.data.mask_dataset import pair_masks, read_mask_values
from lhrs.errors import DataError
from lhrs.imagery.band_stack import BandStack
from lhrs.imagery.image import DEFAULT_MAX_SIDE, open_image
from lhrs.imagery.normalization import Normalization
from lhrs.imagery.windows import make_windows
from lhrs.metrics.segmentation import IGNORE, confusion_matrix
from lhrs.models.logistic_regression import fit, fit_logistic_regression

_SEGMENT_DECAY = 1e-4
_LOWEST_LOGIT = -1e4
"""Logit of a class without any training patch; finite, so that interpolation is finite."""
_BATCH = 64


@dataclass(frozen=True)
class FeatureExtractor:
    """A backbone with the normalization of its inputs.

    Args:
        model: timm model without a head.
        normalization: of its training images. If these are 8-bit RGB images, any file is rendered to 8 bits.
        size: side in pixels to which images are resized; None does not resize.
        device: torch device.
    """

    model: nn.Module
    normalization: Normalization
    size: int | None = None
    device: str = "cpu"

    def load_image(self, file: Path, max_side: int | None = DEFAULT_MAX_SIDE) -> np.ndarray:
        """Return an image as the backbone was trained on: uint8 `(H, W, 3)`, or raw values float32 `(H, W, bands)`.

        Args:
            file: any image file.
            max_side: see `open_image`.

        Raises:
            DataError: the file cannot be read, or its bands differ from those of the backbone.
        """
        normalization = self.normalization
        if normalization.is_rgb:
            return open_image(file, max_side).pixels
        stack = BandStack((file,), normalization.bands)
        values, valid = stack.read_valid()
        normalization.check(values, file)
        usable = valid & np.isfinite(values)
        return np.where(usable, values, normalization.fill_values[:, None, None]).astype(np.float32).transpose(1, 2, 0)

    @torch.inference_mode()
    def feature_maps(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return the last feature maps `(B, C, h, w)` of images of `load_image` that have one size."""
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self.device).float()
        pixels = pixels / self.normalization.max_value
        pixels = pixels.clamp_(0, 1)  # as in pretraining
        if self.size is not None and pixels.shape[-2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        mean, std = (pixels.new_tensor(x).view(-1, 1, 1) for x in (self.normalization.mean, self.normalization.std))
        pixels = (pixels - mean) / std
        return to_feature_map(self.model, cast(Any, self.model).forward_features(pixels)).float()

    def pooled_features(self, files: Sequence[Path]) -> Tensor:
        """Return the averaged features `(N, C)` of files."""
        return torch.cat(
            [self.feature_maps(batch).mean((2, 3)).cpu() for batch in _batches(map(self.load_image, files))]
        )


def list_image_folder(folder: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Return files, labels and names of `<class>/<image>` folders.

    Raises:
        DataError: there are no classes.
    """
    samples = ImageFolder(folder)[:]
    classes = sorted({sample.labels[0] for sample in samples})
    labels = [classes.index(sample.labels[0]) for sample in samples]
    return [Path(sample.images[0]) for sample in samples], np.array(labels), classes


def train_test_features(
    extractor: FeatureExtractor, train: Path, test: Path
) -> tuple[tuple[Tensor, np.ndarray], tuple[Tensor, np.ndarray], list[str]]:
    """Return features and labels of two folders of images per class, and the names of their classes.

    Raises:
        DataError: the classes of the two folders differ.
    """
    (files, labels, names), (test_files, test_labels, test_names) = list_image_folder(train), list_image_folder(test)
    if names != test_names:
        odd = sorted(set(names) ^ set(test_names))[0]
        raise DataError(f"{train} and {test} do not have the same classes: {odd!r} is in one of them only.")
    return (extractor.pooled_features(files), labels), (extractor.pooled_features(test_files), test_labels), names


def read_mask_folder(folder: Path, extractor: FeatureExtractor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read the images of a folder that have masks, see `pair_masks`, as inputs of the backbone.

    Raises:
        DataError: no image has a mask, or sizes differ.
    """
    pairs = []
    for image, mask in pair_masks(folder)[0]:
        pixels, values = extractor.load_image(image, None), read_mask_values(mask)
        if len(values) != 1 or values.shape[1:] != pixels.shape[:2]:
            raise DataError(f"{mask} is not one label per pixel of {image.name}.")
        pairs.append((pixels, values[0].astype(np.uint8)))
    if not pairs:
        raise DataError(f"{folder} contains no image with a NAME_mask.png next to it.")
    return pairs


def knn_accuracy(
    train: Tensor,
    train_labels: np.ndarray,
    test: Tensor,
    test_labels: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Return bool `(N,)`: which test rows a weighted k-nearest-neighbor vote classifies correctly (arXiv:1805.01978).

    Args:
        train: `(M, C)`.
        train_labels: `(M,)`.
        test: `(N, C)`.
        test_labels: `(N,)`.
        k: number of neighbors, by cosine similarity.
        temperature: of the weights of neighbors.
    """
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    labels = torch.from_numpy(train_labels)
    predictions = []
    for rows in test.split(512):
        value, index = (rows @ train.T).topk(min(k, len(train)), dim=1)
        votes = torch.zeros(len(rows), int(labels.max()) + 1)
        votes.scatter_add_(1, labels[index], (value / temperature).exp())
        predictions.append(votes.argmax(1))
    return torch.cat(predictions).numpy() == test_labels


def linear_accuracy(
    train: Tensor, train_labels: np.ndarray, test: Tensor, test_labels: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return bool `(N,)`: which test rows `fit_logistic_regression` classifies correctly."""
    weight, bias = fit_logistic_regression(train.numpy(), train_labels, int(train_labels.max()) + 1, seed)
    return (test.numpy() @ weight.T + bias).argmax(1) == test_labels


def linear_segmentation_confusion(
    extractor: FeatureExtractor,
    train: Sequence[tuple[np.ndarray, np.ndarray]],
    test: Sequence[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    window_size: int = 256,
) -> np.ndarray:
    """Return the confusion matrix `(num_classes, num_classes)` of a linear segmenter on frozen features; rows are true.

    The classifier is fitted to patches of the last feature map, labeled with the fraction of each class. Its logits are
    upsampled to pixels.

    Args:
        extractor: the backbone.
        train: images of `FeatureExtractor.load_image` and labels uint8 `(H, W)`; 255 is ignored.
        test: the same.
        num_classes: number of classes; higher labels are ignored.
        window_size: side of the windows in pixels.
    """
    patches, fractions = [], []
    for image, label in _windows(train, window_size):
        features = extractor.feature_maps([image])
        one_hot = F.one_hot(torch.from_numpy(label).long().clamp(max=num_classes), num_classes + 1)[..., :num_classes]
        fraction = F.adaptive_avg_pool2d(
            one_hot.permute(2, 0, 1)[None].float(), (features.shape[-2], features.shape[-1])
        )
        patches.append(features[0].flatten(1).T.cpu())
        fractions.append(fraction[0].flatten(1).T)
    x, y = torch.cat(patches).numpy(), torch.cat(fractions).numpy()
    mean, std = x.mean(0), x.std(0, ddof=1).clip(min=1e-6)
    rows, targets = y.nonzero()  # a patch is a sample of each of its classes, weighted by the class's fraction
    weight, bias = fit((x[rows] - mean) / std, targets, num_classes, _SEGMENT_DECAY, y[rows, targets])
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for image, label in _windows(test, window_size):
        features = extractor.feature_maps([image])[0].cpu()
        logits = (features.flatten(1).T.numpy() - mean) / std @ weight.T + bias
        maps = torch.from_numpy(logits.clip(min=_LOWEST_LOGIT)).T.unflatten(1, features.shape[1:])
        predicted = F.interpolate(maps[None], label.shape, mode="bilinear")[0].argmax(0).numpy()
        confusion += confusion_matrix(np.where(label < num_classes, label, IGNORE), predicted, num_classes)
    return confusion


def effective_rank(features: Tensor) -> float:
    """Return exp of the entropy of the singular values of centered features (Roy and Vetterli 2007); 1 is collapse."""
    values = torch.linalg.svdvals(features - features.mean(0))
    probabilities = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-(probabilities * probabilities.clamp(min=1e-12).log()).sum()))


def _windows(pairs: Sequence[tuple[np.ndarray, np.ndarray]], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield square windows of images and labels; the last windows of a row or column overlap the previous ones."""
    for image, label in pairs:
        for window in make_windows(label.shape[1], label.shape[0], size):
            left, top, width, height = window.window
            part = np.s_[top : top + height, left : left + width]
            yield image[part], label[part]


def _batches(images: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for image in images:
        if batch and (len(batch) == _BATCH or image.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch

"""What frozen features are good for: nearest neighbours, a linear classifier, a linear segmenter, their rank.

Features are those of the last map, averaged for whole images. Nothing here chooses anything on test data: the linear
probes' strength of regularisation is picked on a fifth of the training data.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.cmid.backbone import to_map
from lhrs.data.datasets.image_folder import ImageFolder
from lhrs.data.mask_dataset import pair_masks, read_mask_values
from lhrs.errors import DataError
from lhrs.imagery.normalization import Normalization
from lhrs.imagery.open import DEFAULT_MAX_SIDE, open_image
from lhrs.imagery.stack import Stack
from lhrs.metrics.segmentation import IGNORE, confusion_matrix

_DECAYS = (1e-5, 1e-4, 1e-3)
_BATCH = 64


@dataclass(frozen=True)
class Probe:
    """A backbone that is looked at.

    Args:
        model: of timm, without a head.
        normalization: of the images that it was trained on. Of 8-bit RGB images: any file is rendered to 8 bits.
        size: side in pixels to which images are scaled; None takes them as they are.
        device: where it runs.
    """

    model: nn.Module
    normalization: Normalization
    size: int | None = None
    device: str = "cpu"

    def read(self, file: Path, max_side: int | None = DEFAULT_MAX_SIDE) -> np.ndarray:
        """Return an image as the backbone was trained on: uint8 `(H, W, 3)`, or raw values float32 `(H, W, bands)`.

        Args:
            file: of any kind.
            max_side: see `open_image`.

        Raises:
            DataError: it cannot be read, or has other bands than the backbone.
        """
        normalization = self.normalization
        if normalization.is_rgb:
            return open_image(file, max_side).pixels
        stack = Stack((file,), normalization.bands)
        values, valid = stack.read_valid()
        normalization.check(values, file)
        usable = valid & np.isfinite(values)
        return np.where(usable, values, normalization.fill_values[:, None, None]).astype(np.float32).transpose(1, 2, 0)

    @torch.inference_mode()
    def maps(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return the last maps `(B, C, h, w)` of images as `read` returns them, of one size."""
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self.device).float()
        pixels = pixels / self.normalization.max_value
        pixels = pixels.clamp_(0, 1)  # as in pretraining
        if self.size is not None and pixels.shape[-2:] != (self.size, self.size):
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        mean, std = (pixels.new_tensor(x).view(-1, 1, 1) for x in (self.normalization.mean, self.normalization.std))
        pixels = (pixels - mean) / std
        return to_map(self.model, cast(Any, self.model).forward_features(pixels)).float()

    def pooled(self, files: Sequence[Path]) -> Tensor:
        """Return `(N, C)` of files."""
        return torch.cat([self.maps(batch).mean((2, 3)).cpu() for batch in _batches(map(self.read, files))])


def labelled_folder(folder: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Return files, labels and names of `<class>/<image>` folders.

    Raises:
        DataError: there are no classes.
    """
    samples = ImageFolder(folder)[:]
    classes = sorted({sample.labels[0] for sample in samples})
    labels = [classes.index(sample.labels[0]) for sample in samples]
    return [Path(sample.images[0]) for sample in samples], np.array(labels), classes


def labelled_pairs(
    probe: Probe, train: Path, test: Path
) -> tuple[tuple[Tensor, np.ndarray], tuple[Tensor, np.ndarray], list[str]]:
    """Return features and labels of two labelled folders, and the names of their classes.

    Raises:
        DataError: they have other classes.
    """
    (files, labels, names), (more, wanted, other) = labelled_folder(train), labelled_folder(test)
    if names != other:
        odd = sorted(set(names) ^ set(other))[0]
        raise DataError(f"{train} and {test} do not have the same classes: {odd!r} is in one of them only.")
    return (probe.pooled(files), labels), (probe.pooled(more), wanted), names


def masked_folder(folder: Path, probe: Probe) -> list[tuple[np.ndarray, np.ndarray]]:
    """Read the images of a folder that have masks, see `pair_masks`, as the backbone was trained on images.

    Raises:
        DataError: There are none, or sizes differ.
    """
    pairs = []
    for image, mask in pair_masks(folder)[0]:
        pixels, values = probe.read(image, None), read_mask_values(mask)
        if len(values) != 1 or values.shape[1:] != pixels.shape[:2]:
            raise DataError(f"{mask} is not one label per pixel of {image.name}.")
        pairs.append((pixels, values[0].astype(np.uint8)))
    if not pairs:
        raise DataError(f"{folder} holds no image with a NAME_mask.png next to it.")
    return pairs


def knn_accuracy(
    train: Tensor,
    train_labels: np.ndarray,
    test: Tensor,
    test_labels: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Return which test rows the weighted vote of the k nearest gets right (arXiv:1805.01978), bool `(N,)`.

    Args:
        train: `(M, C)`.
        train_labels: `(M,)`.
        test: `(N, C)`.
        test_labels: `(N,)`.
        k: neighbours, by cosine.
        temperature: of their weights.
    """
    train, test = F.normalize(train, dim=1), F.normalize(test, dim=1)
    labels = torch.from_numpy(train_labels)
    right = []
    for rows in test.split(512):
        value, index = (rows @ train.T).topk(min(k, len(train)), dim=1)
        votes = torch.zeros(len(rows), int(labels.max()) + 1)
        votes.scatter_add_(1, labels[index], (value / temperature).exp())
        right.append(votes.argmax(1))
    return torch.cat(right).numpy() == test_labels


def linear_accuracy(
    train: Tensor, train_labels: np.ndarray, test: Tensor, test_labels: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Return which test rows `fit_linear` gets right, bool `(N,)`."""
    layer = fit_linear(train, train_labels, int(train_labels.max()) + 1, seed)
    return layer(test).argmax(1).numpy() == test_labels


def fit_linear(x: Tensor, targets: np.ndarray, num_classes: int, seed: int = 0) -> nn.Linear:
    """Return multinomial logistic regression, its decay picked on a fifth and then fitted to all.

    Args:
        x: features `(N, C)`; standardised inside, the layer returned takes them as they are.
        targets: numbers of classes `(N,)`.
        num_classes: of them.
        seed: of the fifth.
    """
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x, labels = (x - mean) / std, torch.from_numpy(targets)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x)))
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]
    scores = [
        (_fit(x[rest], labels[rest], num_classes, decay)(x[held]).argmax(1) == labels[held]).float().mean()
        for decay in _DECAYS
    ]
    layer = _fit(x, labels, num_classes, _DECAYS[int(torch.stack(scores).argmax())])
    layer.weight.div_(std)
    layer.bias.sub_(layer.weight @ mean)
    return layer


def _fit(x: Tensor, labels: Tensor, num_classes: int, decay: float) -> nn.Linear:
    """Fit a linear classifier to the end with L-BFGS; it learns nothing more."""
    layer = nn.Linear(x.shape[1], num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=150, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), labels) + decay * layer.weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer.requires_grad_(False)


def dense_confusion(
    probe: Probe,
    train: Sequence[tuple[np.ndarray, np.ndarray]],
    test: Sequence[tuple[np.ndarray, np.ndarray]],
    num_classes: int,
    patch: int = 256,
) -> np.ndarray:
    """Return the pooled confusion `(num_classes, num_classes)`, rows are true, of a linear segmenter on frozen maps.

    The classifier is fitted on cells of the last map, whose label is a share of each class; its scores are enlarged
    to pixels.

    Args:
        probe: the backbone.
        train: images as `Probe.read` returns them and labels uint8 `(H, W)`; 255 counts nowhere.
        test: the same.
        num_classes: labels are below.
        patch: side in pixels of the pieces that go through the network.
    """
    cells, shares = [], []
    for image, label in _pieces(train, patch):
        features = probe.maps([image])
        height, width = features.shape[-2:]
        one_hot = F.one_hot(torch.from_numpy(label).long().clamp(max=num_classes), num_classes + 1)[..., :num_classes]
        share = F.adaptive_avg_pool2d(one_hot.permute(2, 0, 1)[None].float(), (height, width))
        cells.append(features[0].flatten(1).T.cpu())
        shares.append(share[0].flatten(1).T)
    x, y = torch.cat(cells), torch.cat(shares)
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    layer = _fit_shares((x - mean) / std, y)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for image, label in _pieces(test, patch):
        features = probe.maps([image])[0].cpu()
        scores = layer((features.flatten(1).T - mean) / std).T.unflatten(1, features.shape[1:])
        guess = F.interpolate(scores[None], label.shape, mode="bilinear")[0].argmax(0).numpy()
        confusion += confusion_matrix(np.where(label < num_classes, label, IGNORE), guess, num_classes)
    return confusion


def _fit_shares(x: Tensor, shares: Tensor, decay: float = 1e-4) -> nn.Linear:
    layer = nn.Linear(x.shape[1], shares.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=150, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -(shares * layer(x).log_softmax(1)).sum() / shares.sum() + decay * layer.weight.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer.requires_grad_(False)


def effective_rank(features: Tensor) -> float:
    """Return exp of the entropy of the singular values of centred features (Roy and Vetterli 2007); 1 is collapse."""
    values = torch.linalg.svdvals(features - features.mean(0))
    share = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))


def _pieces(pairs: Sequence[tuple[np.ndarray, np.ndarray]], patch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut images and labels into squares; what is left at the lower and right edges overlaps its neighbour."""
    for image, label in pairs:
        high, wide = label.shape
        for top in sorted({min(t, max(high - patch, 0)) for t in range(0, high, patch)}):
            for left in sorted({min(n, max(wide - patch, 0)) for n in range(0, wide, patch)}):
                part = np.s_[top : top + patch, left : left + patch]
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

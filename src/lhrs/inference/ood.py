"""Out-of-distribution detection in the encoder's feature space.

Softmax confidence does not detect unfamiliar images: it is high even on noise. Two scores do together: the Mahalanobis
distance to the closest training class under the shared covariance (arXiv:1807.03888), and a linear classifier against
images made to be unfamiliar (outlier exposure, arXiv:1812.04606).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

_QUANTILE = 0.985
"""Fraction of held-back images below the limit of each score, so that about 3 % are above one of them."""
_CLIP = 8.0
"""Standardized features beyond it count as it: one extreme channel does not decide."""


@dataclass(frozen=True)
class OODDetector:
    """Class means, the whitening matrix of the distance, and the linear classifier. C features, K classes.

    Both scores are scaled so that their limit is 1.
    """

    threshold: ClassVar[float] = 1.0
    """Scores above it are out of distribution."""
    means: np.ndarray
    """float32 `(K, r)`, whitened."""
    whitening: np.ndarray
    """float32 `(C, r)`."""
    center: np.ndarray
    """float32 `(C,)`: means of the features."""
    std: np.ndarray
    """float32 `(C,)`: their standard deviations."""
    weights: np.ndarray
    """float32 `(C,)` of the linear score; 0 without outliers."""
    bias: float

    @staticmethod
    def fit(
        features: np.ndarray, groups: np.ndarray, held_back: np.ndarray, outliers: np.ndarray | None = None
    ) -> "OODDetector":
        """Fit the detector.

        Args:
            features: `(N, C)` of training images.
            groups: `(N,)` class of each.
            held_back: `(M, C)` of familiar images that set the limits.
            outliers: `(O, C)` of unfamiliar images; None uses the distance alone.
        """
        names = np.unique(groups)
        means = np.stack([features[groups == g].mean(0) for g in names])
        centered = features - means[np.searchsorted(names, groups)]
        covariance = centered.T @ centered / len(features)
        values, vectors = np.linalg.eigh(
            covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        )
        whitening = vectors / np.sqrt(values)
        center, std = features.mean(0), features.std(0) + 1e-4
        weights, bias = np.zeros(features.shape[1]), 0.0
        if outliers is not None:
            standard = [((x - center) / std).clip(-_CLIP, _CLIP) for x in (features, outliers, held_back)]
            weights, bias = _fit_linear(*standard)
        whitened = means @ whitening
        distances = [np.sqrt(((whitened - f @ whitening) ** 2).sum(1).min()) for f in held_back]
        scale = 1 / np.quantile(distances, _QUANTILE)
        found = {"means": whitened * scale, "whitening": whitening * scale, "center": center, "std": std,
                 "weights": weights}  # fmt: skip
        return OODDetector(**{name: x.astype(np.float32) for name, x in found.items()}, bias=float(bias))

    def ood_score(self, features: np.ndarray) -> float:
        """Return the larger score of `(C,)` features."""
        distance = float(np.sqrt(((self.means - features @ self.whitening) ** 2).sum(1).min()))
        standard = ((features - self.center) / self.std).clip(-_CLIP, _CLIP)
        return max(distance, float(standard @ self.weights + self.bias))

    def is_ood(self, features: np.ndarray) -> bool:
        """Return whether `(C,)` features are out of distribution."""
        return self.ood_score(features) > self.threshold

    def save(self, path: Path) -> None:
        """Write a `.npz` without pickled content."""
        np.savez(
            path, means=self.means, whitening=self.whitening.astype(np.float16), center=self.center,
            std=self.std, weights=self.weights, bias=np.float32(self.bias),
        )  # fmt: skip

    @staticmethod
    def load(path: Path) -> "OODDetector":
        """Read a file of `save`."""
        with np.load(path, allow_pickle=False) as data:
            names = ("means", "whitening", "center", "std", "weights")
            return OODDetector(**{name: data[name].astype(np.float32) for name in names}, bias=float(data["bias"]))


def _fit_linear(familiar: np.ndarray, outliers: np.ndarray, held_back: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights and bias of a score whose median over held-back images is 0 and whose limit is 1."""
    from sklearn.linear_model import LogisticRegression

    labels = np.repeat([0, 1], [len(familiar), len(outliers)])
    model = LogisticRegression(C=0.003, max_iter=2000, class_weight="balanced")
    weights = model.fit(np.concatenate([familiar, outliers]), labels).coef_[0]
    middle, limit = np.quantile(held_back @ weights, [0.5, _QUANTILE])
    return weights / (limit - middle), -middle / (limit - middle)

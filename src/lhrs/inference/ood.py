"""Out-of-distribution detection by Mahalanobis distance in the encoder's feature space.

Softmax confidence does not detect such inputs: it is high even on noise. The score is the distance of pooled features
to the closest training class under the shared covariance (arXiv:1807.03888).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class OODDetector:
    """Class means and the whitening matrix of the Mahalanobis distance."""

    means: np.ndarray
    """float32 `(K, r)`, whitened."""
    whitening: np.ndarray
    """float32 `(C, r)`."""
    threshold: float
    """Scores above it are out of distribution: the 99th percentile over held-out training images."""

    @staticmethod
    def fit(features: np.ndarray, groups: np.ndarray, held_back: np.ndarray) -> "OODDetector":
        """Fit on `(N, C)` features with group ids `(N,)`; `held_back` `(M, C)` sets the threshold."""
        names = np.unique(groups)
        means = np.stack([features[groups == g].mean(0) for g in names])
        centered = features - means[np.searchsorted(names, groups)]
        covariance = centered.T @ centered / len(features)
        values, vectors = np.linalg.eigh(
            covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        )
        whitening = (vectors / np.sqrt(values)).astype(np.float32)
        detector = OODDetector((means @ whitening).astype(np.float32), whitening, 0.0)
        return OODDetector(
            detector.means, whitening, float(np.quantile([detector.ood_score(f) for f in held_back], 0.99))
        )

    def ood_score(self, features: np.ndarray) -> float:
        """Return the Mahalanobis distance of `(C,)` features to the closest class."""
        return float(np.sqrt(((self.means - features @ self.whitening) ** 2).sum(1).min()))

    def is_ood(self, features: np.ndarray) -> bool:
        """Return whether `(C,)` features are out of distribution."""
        return self.ood_score(features) > self.threshold

    def save(self, path: Path) -> None:
        """Write a `.npz` without pickled content."""
        np.savez(
            path, means=self.means, whitening=self.whitening.astype(np.float16), threshold=np.float32(self.threshold)
        )

    @staticmethod
    def load(path: Path) -> "OODDetector":
        """Read a file of `save`."""
        with np.load(path, allow_pickle=False) as data:
            return OODDetector(data["means"], data["whitening"].astype(np.float32), float(data["threshold"]))

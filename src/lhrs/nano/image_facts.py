"""What is known about one image, in the form that question generators read."""

from dataclasses import dataclass, field

import numpy as np

REGIONS: dict[str, tuple[float, float, float, float]] = {
    "top left": (0.0, 0.0, 0.5, 0.5),
    "top right": (0.5, 0.0, 1.0, 0.5),
    "bottom left": (0.0, 0.5, 0.5, 1.0),
    "bottom right": (0.5, 0.5, 1.0, 1.0),
    "left half": (0.0, 0.0, 0.5, 1.0),
    "right half": (0.5, 0.0, 1.0, 1.0),
    "top half": (0.0, 0.0, 1.0, 0.5),
    "bottom half": (0.0, 0.5, 1.0, 1.0),
    "centre": (0.25, 0.25, 0.75, 0.75),
}
"""Named regions as x0, y0, x1, y1 shares of the image."""
QUADRANTS = tuple(REGIONS)[:4]


@dataclass
class ImageFacts:
    """Labels of one image; a field that is None is unknown, never "absent"."""

    vocabulary: str
    """Which block of classes.yaml the class names come from: "eurosat", "ucmerced", "dubai", or "sites"."""
    scene: str | None = None
    """Class key of the whole image."""
    cover: np.ndarray | None = None
    """Shares `(classes, rows, columns)` of each class per cell; a cell that is unlabelled sums to less than one."""
    classes: list[str] = field(default_factory=list)
    """Class keys along the first axis of `cover`."""
    buildings: np.ndarray | None = None
    """`(N, 4)` xyxy of every building, as shares of the image side."""

    def share(self, name: str, region: str | None = None) -> float:
        """Return the share of the region (default: the image) that class `name` covers."""
        return float(self._window(region)[self.classes.index(name)].mean())

    def dominant(self, region: str | None = None, least: float = 0.6) -> str | None:
        """Return the class that covers at least `least` of the region, if any."""
        shares = self._window(region).mean((1, 2))
        best = int(shares.argmax())
        return self.classes[best] if shares[best] >= least else None

    def labeled(self) -> float:
        """Return the labelled share of the image."""
        return float(self._window(None).sum(0).mean())

    def _window(self, region: str | None) -> np.ndarray:
        assert self.cover is not None  # asked only of images with a map
        if region is None:
            return self.cover
        x0, y0, x1, y1 = REGIONS[region]
        _, rows, columns = self.cover.shape
        return self.cover[:, round(y0 * rows) : round(y1 * rows), round(x0 * columns) : round(x1 * columns)]

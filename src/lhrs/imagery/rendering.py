"""Band selection and 8-bit scaling for rasters of an unknown sensor."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SENTINEL2_WHITE = 3000
"""Reflectance x 10,000 that is rendered as white for Sentinel-2, as in the EuroSAT RGB images."""
_CLASS_CODES = 16
"""A gray 8-bit band with all values below this contains class codes or a mask. Unscaled, it would be black."""
FILL_VALUES = (-9999, -32767, -32768, -99999)
"""Common nodata value of signed data. It is treated as nodata even if a file does not declare it."""
_FILL_MAGNITUDE = 1e30
STRETCHED = "2-98 percentile of all bands"

_BY_COUNT = {
    1: ((1, 1, 1), "single band"),
    2: ((1, 2, 1), "two bands, as radar VV, VH, VV"),
    3: ((1, 2, 3), "three bands, as RGB"),
    4: ((1, 2, 3), "four bands, as RGB and near infrared"),
    5: ((3, 2, 1), "five bands, blue first"),
    6: ((3, 2, 1), "six bands, blue first"),
    7: ((4, 3, 2), "Landsat 8 band order"),
    8: ((5, 3, 2), "WorldView band order"),
    10: ((3, 2, 1), "Sentinel-2 band order without the 60 m bands"),
    11: ((4, 3, 2), "Landsat 8 or Sentinel-2 band order"),
    12: ((4, 3, 2), "Sentinel-2 band order"),
    13: ((4, 3, 2), "Sentinel-2 band order"),
}
_COLORS = ("red", "green", "blue")
# Red, green and blue are B4, B3, B2 in both Sentinel-2 and Landsat 8/9.
_NAME_PATTERNS = (
    [rf"^{color}$" for color in _COLORS],
    [rf"(?:^|[^a-z0-9])b0?{number}$" for number in (4, 3, 2)],
    [rf"^(?!.*(?:edge|coast)).*(?<![a-z]){color}(?![a-z])" for color in _COLORS],
)


def choose_bands(colors: Sequence[str], names: Sequence[str | None]) -> tuple[list[int], str]:
    """Return the 1-based bands to render as red, green and blue, and the source of this selection.

    Args:
        colors: declared color interpretation of each band: "red", "green", "blue", "gray", "alpha", "undefined", ...
        names: free-text name of each band, or None.
    """
    if all(color in colors for color in _COLORS):
        return [colors.index(color) + 1 for color in _COLORS], "declared colors"
    lower = [(name or "").strip().lower() for name in names]
    for patterns in _NAME_PATTERNS:
        bands = [next((i for i, name in enumerate(lower, 1) if re.search(p, name)), 0) for p in patterns]
        if all(bands):
            return bands, "band names"
    data_bands = [i for i, color in enumerate(colors, 1) if color != "alpha"] or [1]
    positions, reason = _BY_COUNT.get(len(data_bands), ((1, 2, 3), "first three bands"))
    return [data_bands[p - 1] for p in positions], reason


def data_mask(values: np.ndarray) -> np.ndarray:
    """Return bool of the shape of `values`: False at NaN, infinity and common undeclared fill values."""
    if values.dtype.kind not in "if":
        return np.ones(values.shape, bool)
    mask = ~np.isin(values, FILL_VALUES)
    if values.dtype.kind == "f":
        mask &= np.abs(values) < _FILL_MAGNITUDE  # also False for NaN
    return mask


@dataclass(frozen=True)
class Scaling:
    """Scaling of band values to 8-bit. It is fitted on one image and applied to all of its windows."""

    limits: tuple[tuple[float, float], ...] | None
    """Per band, the values that become 0 and 255; None leaves values unchanged."""
    description: str
    """Human-readable description."""

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return uint8 `(B, H, W)` of values of the same shape."""
        if self.limits is None:
            return values
        return np.stack([_linear(band, low, high) for band, (low, high) in zip(values, self.limits, strict=True)])


def _linear(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if not high > low:
        return np.full(values.shape, 128, np.uint8)
    inside: np.ndarray = np.nan_to_num(np.clip(values, low, high), nan=low)
    return ((inside - low) * (255 / (high - low))).round().astype(np.uint8)


def _stretch(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    known = values[mask]
    low, high = np.percentile(known, (2, 98)) if known.size else (0, 0)
    if not high > low and known.size:  # nearly constant: stretch to the full range
        low, high = known.min(), known.max()
    return float(low), float(high)


def choose_scaling(values: np.ndarray, mask: np.ndarray, per_band: bool = False) -> Scaling:
    """Return the scaling for an image of an unknown sensor.

    Args:
        values: `(B, H, W)` of any real type, the bands to render.
        mask: bool `(B, H, W)`, True where a band has data.
        per_band: stretch each band by itself, which changes the hue.
    """
    if values.dtype == np.uint8:
        top = int(values.max(where=mask, initial=0)) if len(values) == 1 else 0
        if 0 < top < _CLASS_CODES:
            return Scaling(((0, top),), f"class codes 0-{top} spread over black to white")
        return Scaling(None, "uint8 as is")
    if per_band:
        limits = tuple(_stretch(band, known) for band, known in zip(values, mask, strict=True))
        return Scaling(limits, "2-98 percentile of each band")
    return percentile_stretch(values, mask, STRETCHED)


def percentile_stretch(values: np.ndarray, mask: np.ndarray, description: str) -> Scaling:
    """Return the scaling to the 2nd and 98th percentile of all bands `(B, H, W)` together, where they have data."""
    return Scaling((_stretch(values, mask),) * len(values), description)

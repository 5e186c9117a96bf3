"""Map features: an id, a kind and a shape in longitude and latitude."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Features:
    """Columns of equal length. Geometries are in degrees of longitude and latitude (WGS 84)."""

    ids: list[str]
    """`n1`, `w1`, `r1` for OpenStreetMap's nodes, ways and relations, else the id in the file."""
    kinds: list[str]
    """Names of `resources/tags.csv`."""
    geometries: np.ndarray
    """Shapely objects."""

    def __len__(self) -> int:
        return len(self.ids)

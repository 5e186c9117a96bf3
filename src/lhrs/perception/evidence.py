"""What the perception heads report about one image."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """Probabilities and fractions of one image."""

    scenes: Mapping[str, float]
    """Probabilities of scene classes such as `eurosat/Forest`; they sum to 1."""
    cover: Mapping[str, float]
    """Fractions of the image's area by land-cover class; they sum to 1."""
    tags: Mapping[str, float]
    """Probability of each tag that it is present somewhere in the image."""

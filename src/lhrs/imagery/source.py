"""Where an image comes from, and on which terms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageSource:
    """One image, or one scene stored band by band."""

    name: str
    """Unique among the sources."""
    files: tuple[str, ...]
    """One file, or one per band."""
    date: str | None = None
    """ISO day of acquisition."""
    license: str | None = None
    attribution: str | None = None
    cloud_share: float | None = None
    """Of the whole scene, by its metadata."""
    scl: str | None = None
    """File of Sentinel-2's scene classification: its clouds are counted window by window."""
    bands: tuple[str, ...] = ()
    """Names of the bands where each is a file: red, green and blue first."""
    sensor: str | None = None
    """By the product's name or the catalog."""
    scale: float | None = None
    """By the catalog: physical value = raw value * scale + offset. None leaves it to the files."""
    offset: float | None = None
    baseline: str | None = None
    """Sentinel-2's processing baseline by the catalog, where it states neither scale nor offset."""
    band_assets: tuple[tuple[str, str], ...] = ()
    """Name and file of each band, where `files` is a true-color image made of them."""

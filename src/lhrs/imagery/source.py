"""Source of an image: files, date, license and attribution."""

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
    """Of the whole scene, from its metadata."""
    scl: str | None = None
    """File of Sentinel-2's scene classification, from which the cloud cover of each window is computed."""
    bands: tuple[str, ...] = ()
    """Names of the bands if each is a file: red, green and blue first."""
    sensor: str | None = None
    """From the product name or the catalog."""
    scale: float | None = None
    """From the catalog: physical value = raw value * scale + offset. None reads them from the files."""
    offset: float | None = None
    baseline: str | None = None
    """Sentinel-2's processing baseline from the catalog, if it states neither scale nor offset."""
    band_assets: tuple[tuple[str, str], ...] = ()
    """Name and file of each band, if `files` is a true-color image of them."""

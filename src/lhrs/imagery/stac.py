"""STAC items as sources of images: the true-color asset if there is one, else the band assets."""

import re
from collections.abc import Iterator
from typing import Any

from lhrs.errors import DataError
from lhrs.imagery.source import ImageSource

_TRUE_COLOR_ASSETS = ("visual", "image", "true-color", "TCI")
_RGB = ("red", "green", "blue")
_S2_SCALE = 0.0001


def stac_sources(path: str, license: str | None = None, attribution: str | None = None) -> Iterator[ImageSource]:
    """Yield a source for each item of a STAC item, collection or catalog.

    Args:
        path: its JSON file or URL.
        license: default for items that state none.
        attribution: default for items that name no provider.

    Raises:
        DataError: the file is not STAC, or an item has no image.
    """
    import pystac

    try:
        catalog: Any = pystac.read_file(path)
        items = [catalog] if isinstance(catalog, pystac.Item) else list(catalog.get_items(recursive=True))
    except Exception as error:  # pystac raises its own exceptions, those of json and OSError
        raise DataError(f"{path} cannot be read as STAC ({' '.join(str(error).split())}).") from None
    for item in items:
        properties = item.properties
        providers = ", ".join(p["name"] for p in properties.get("providers", []) if p.get("name"))
        cloud = properties.get("eo:cloud_cover")
        scl = item.assets.get("scl") or item.assets.get("SCL")
        files, bands, band_assets = _files(item, path)
        scale, offset = _radiometry(item, [key for _, key in band_assets])
        yield ImageSource(
            # The id becomes the name of a folder and is untrusted.
            re.sub(r"[^\w.@,-]+", "_", item.id).strip(".") or "item", files,
            str(item.datetime.date()) if item.datetime else (properties.get("start_datetime") or "")[:10] or None,
            properties.get("license") or license, providers or attribution,
            None if cloud is None else float(cloud) / 100, scl.get_absolute_href() if scl else None, bands,
            _sensor(item), None if not bands and not band_assets else scale, offset,
            _baseline(item) if scale is None and offset is None else None,
            tuple((name, str(item.assets[key].get_absolute_href())) for name, key in band_assets),
        )  # fmt: skip


def _sensor(item: Any) -> str | None:
    """Return the sensor from an item's properties."""
    platform = str(item.properties.get("constellation") or item.properties.get("platform") or "").lower()
    kind = f"{item.collection_id or ''} {item.id} {item.properties.get('s2:product_type', '')}".lower()
    if platform.startswith("sentinel-2"):
        return "sentinel-2-l1c" if "l1c" in kind else "sentinel-2-l2a"
    mission = str(item.properties.get("platform") or "").lower()
    if mission.startswith("landsat") and "l2" in kind:
        return "landsat-c2-l2" if mission.endswith(("8", "9")) else "landsat-4-7-c2-l2"
    return None


def _baseline(item: Any) -> str | None:
    """Return the processing baseline of a Sentinel-2 item."""
    properties = item.properties
    platform = str(properties.get("constellation") or properties.get("platform") or "").lower()
    stated = properties.get("s2:processing_baseline") or (
        properties.get("processing:version") if platform.startswith("sentinel-2") else None
    )
    return None if stated is None else str(stated)


def _files(item: Any, path: str) -> tuple[tuple[str, ...], tuple[str, ...], list[tuple[str, str]]]:
    """Return the files of an item, their band names, and the asset keys of each band name."""
    assets = item.assets
    named = [(name, key) for key, asset in assets.items() if (name := _band_name(key, asset)) is not None]
    band_assets = list(dict(reversed(named)).items())[::-1]  # the first asset of each band
    by_role = [key for key, asset in assets.items() if "visual" in (asset.roles or [])]
    for name in (*by_role, *_TRUE_COLOR_ASSETS):
        if name in assets:
            return (assets[name].get_absolute_href(),), (), band_assets
    keys = dict(band_assets)
    if all(color in keys for color in _RGB):
        ordered = [*_RGB, *(name for name, _ in band_assets if name not in _RGB)]
        return tuple(assets[keys[name]].get_absolute_href() for name in ordered), tuple(ordered), band_assets
    data = [asset for asset in assets.values() if "data" in (asset.roles or []) and "tiff" in (asset.media_type or "")]
    if len(data) == 1:
        return (data[0].get_absolute_href(),), (), []
    raise DataError(f"{path}: item {item.id!r} has neither a true-color asset nor red, green and blue.")


def _bands(asset: Any) -> list[dict[str, Any]]:
    return list(asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or [])


def _band_name(key: str, asset: Any) -> str | None:
    """Return the common name of the only band of an asset, or else its name; None if it has no band."""
    bands = _bands(asset)
    if len(bands) == 1:
        band = bands[0]
        name = band.get("eo:common_name") or band.get("common_name") or band.get("name")
        return None if name is None else str(name)
    return key if key in _RGB else None


def _radiometry(item: Any, keys: list[str]) -> tuple[float | None, float | None]:
    """Return scale and offset of an item's bands; None reads them from the files.

    The offset of Sentinel-2's processing baseline 04.00 is ignored if the catalog states that it is already removed
    (`earthsearch:boa_offset_applied`).
    """
    scale, offset = None, None
    for asset in (item.assets[key] for key in keys):
        for band in [*(asset.extra_fields.get("raster:bands") or []), *_bands(asset), asset.extra_fields]:
            scale = band.get("scale", band.get("raster:scale")) if scale is None else scale
            offset = band.get("offset", band.get("raster:offset")) if offset is None else offset
    if item.properties.get("earthsearch:boa_offset_applied") is True:
        return (_S2_SCALE if scale is None else float(scale)), 0.0
    return (None if scale is None else float(scale)), (None if offset is None else float(offset))

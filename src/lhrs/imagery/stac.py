"""STAC items as sources of pictures: the true-colour asset where there is one, else red, green and blue."""

import re
from collections.abc import Iterator
from typing import Any

from lhrs.errors import DataError
from lhrs.imagery.sources import Source

_TRUE_COLOUR = ("visual", "image", "true-color", "TCI")
_COLOURS = ("red", "green", "blue")


def stac_sources(path: str, licence: str | None = None, attribution: str | None = None) -> Iterator[Source]:
    """Yield a source for each item of a STAC item, collection or catalogue on disk.

    Args:
        path: its JSON, or its URL.
        licence: where items state none.
        attribution: where items name no provider.

    Raises:
        DataError: it is no STAC, or an item holds no picture.
    """
    import pystac

    try:
        found: Any = pystac.read_file(path)
        items = [found] if isinstance(found, pystac.Item) else list(found.get_items(recursive=True))
    except Exception as error:  # pystac raises its own, json's and the file system's
        raise DataError(f"{path} cannot be read as STAC ({' '.join(str(error).split())}).") from None
    for item in items:
        said = item.properties
        providers = ", ".join(p["name"] for p in said.get("providers", []) if p.get("name"))
        cloud = said.get("eo:cloud_cover")
        scl = item.assets.get("scl") or item.assets.get("SCL")
        yield Source(
            # The id becomes the name of a folder, and whoever made the catalogue chose it.
            re.sub(r"[^\w.@,-]+", "_", item.id).strip(".") or "item",
            _files(item, path),
            str(item.datetime.date()) if item.datetime else (said.get("start_datetime") or "")[:10] or None,
            said.get("license") or licence,
            providers or attribution,
            None if cloud is None else float(cloud) / 100,
            scl.get_absolute_href() if scl else None,
            13 if str(said.get("constellation", said.get("platform", ""))).lower().startswith("sentinel-2") else None,
        )


def _files(item: Any, path: str) -> tuple[str, ...]:
    assets = item.assets
    by_role = [key for key, asset in assets.items() if "visual" in (asset.roles or [])]
    for name in (*by_role, *_TRUE_COLOUR):
        if name in assets:
            return (assets[name].get_absolute_href(),)
    by_colour: dict[str, str] = {}
    for key, asset in assets.items():
        bands = asset.extra_fields.get("bands") or asset.extra_fields.get("eo:bands") or []
        names = (
            {str(band.get("eo:common_name") or band.get("common_name")) for band in bands} if len(bands) == 1 else set()
        )
        for colour in _COLOURS:
            if colour in names or key == colour:
                by_colour.setdefault(colour, asset.get_absolute_href())
    if len(by_colour) == 3:
        return tuple(by_colour[colour] for colour in _COLOURS)
    data = [asset for asset in assets.values() if "data" in (asset.roles or []) and "tiff" in (asset.media_type or "")]
    if len(data) == 1:
        return (data[0].get_absolute_href(),)
    raise DataError(f"{path}: item {item.id!r} has neither a true-colour asset nor red, green and blue.")

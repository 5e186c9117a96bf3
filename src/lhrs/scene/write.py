"""Output files of a scene: georeferenced answers, a raster of classes, a summary and a preview image."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.atomic_io import atomic_write, write_atomic
from lhrs.imagery.georeference import Georeference, feature, write_geojson
from lhrs.imagery.scene import Scene
from lhrs.scene.preview import draw
from lhrs.scene.result import CHANGED, UNCHANGED, Result, class_code
from lhrs.scene.summary import AREAS, summarize
from lhrs.scene.window_inference import SceneQuery

GEOJSON, PARQUET, RASTER, SUMMARY, PREVIEW = (
    "answers.geojson", "answers.parquet", "classes.tif", "summary.json", "preview.png"
)  # fmt: skip
_TILE = 512


def write_scene(folder: Path, result: Result, query: SceneQuery, provenance: dict[str, Any]) -> dict[str, Any]:
    """Write the output files of a scene and return its summary.

    Args:
        folder: output folder.
        result: the answers.
        query: the question.
        provenance: properties of every answer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scene = result.scene
    rects, about = _ground(result) if result.objects is not None else _answers(result)
    corners = _corners(rects)
    lonlat = _to_lonlat(scene, corners)
    shared = {"item": result.source.name, "date": result.source.date, **provenance}
    properties = [{**item, **{key: value for key, value in shared.items() if value is not None}} for item in about]
    write_geojson(folder / GEOJSON, (feature(ring, item) for ring, item in zip(lonlat, properties, strict=True)))
    _write_parquet(folder / PARQUET, scene, corners, properties)
    km2 = _areas_km2(scene, [row["core"] for row in result.rows])
    summary = {"item": result.source.name, **summarize(result, query, km2), "composite": provenance["composite"]}
    if query.kind in AREAS:
        names = _names(result, query)
        if len(names) <= np.iinfo(np.uint16).max and query.kind in ("classify", "change"):
            _write_raster(folder / RASTER, result, names)
        draw(result, names, folder / PREVIEW)
    else:
        draw(result, [], folder / PREVIEW)
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return summary


def _names(result: Result, query: SceneQuery) -> list[str]:
    if query.kind == "change":
        return [UNCHANGED, CHANGED]
    return list(query.labels or sorted({row["answer"] for row in result.rows if row["answer"] is not None}))


def _answers(result: Result) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the cores of windows with an answer, and their properties."""
    answered = [row for row in result.rows if row["answer"] is not None]
    about = []
    for row in answered:
        item = {"answer": row["answer"], "confidence": _rounded(row["confidence"]), "window": row["window"],
               "valid_fraction": round(row["valid_fraction"], 4),
               "out_of_distribution": row["out_of_distribution"]}  # fmt: skip
        if row["answer_before"] is not None:
            item |= {"answer_before": row["answer_before"], "changed": row["answer"] != row["answer_before"]}
        about.append(item)
    return np.array([row["core"] for row in answered], float).reshape(-1, 4), about


def _ground(result: Result) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the objects' rectangles as left, top, width, height, and their properties."""
    merged = result.objects
    assert merged is not None
    windows = {row["number"]: row for row in result.rows}
    about = [
        {"number": n + 1, "confidence": _rounded(confidence), "xyxy": [round(v, 3) for v in box],
         "window": windows[window]["window"], "out_of_distribution": windows[window]["out_of_distribution"]}
        for n, (box, confidence, window) in enumerate(
            zip(merged.boxes.tolist(), merged.scores.tolist(), merged.windows.tolist(), strict=True)
        )
    ]  # fmt: skip
    return np.concatenate([merged.boxes[:, :2], merged.boxes[:, 2:] - merged.boxes[:, :2]], 1), about


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _corners(rects: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners in pixels of `(N, 4)` left, top, width, height."""
    left, top, width, height = rects.T[:, :, None]
    return np.stack([left + width * [0, 0, 1, 1], top + height * [0, 1, 1, 0]], -1)


def _to_lonlat(scene: Scene, corners: np.ndarray) -> np.ndarray:
    from affine import Affine
    from rasterio.crs import CRS

    georeference = Georeference(CRS.from_string(scene.crs), Affine(*scene.transform))
    return georeference.to_lonlat(corners.reshape(-1, 2)).reshape(-1, 4, 2)


def _areas_km2(scene: Scene, rects: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the area of rectangles of the scene on the WGS 84 ellipsoid."""
    from pyproj import Geod

    geod = Geod(ellps="WGS84")
    rings = _to_lonlat(scene, _corners(np.array(rects, float).reshape(-1, 4)))
    return np.array([abs(geod.polygon_area_perimeter(*ring.T)[0]) / 1e6 for ring in rings])


def _write_parquet(path: Path, scene: Scene, corners: np.ndarray, properties: list[dict[str, Any]]) -> None:
    """Write GeoParquet in the scene's CRS."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely
    from pyproj import CRS

    a, b, c, d, e, f = scene.transform
    x, y = corners[..., 0], corners[..., 1]
    shapes = shapely.polygons(np.stack([a * x + b * y + c, d * x + e * y + f], -1)) if len(corners) else np.empty(0)
    table = pa.Table.from_pylist(properties) if properties else pa.table({"answer": pa.array([], pa.string())})
    table = table.append_column("geometry", pa.array(shapely.to_wkb(shapes), pa.binary()))
    column = {"encoding": "WKB", "geometry_types": ["Polygon"] if len(corners) else [],
              "crs": json.loads(CRS.from_user_input(scene.crs).to_json())}  # fmt: skip
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    with atomic_write(path) as part:
        pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), part, compression="zstd")


def _write_raster(path: Path, result: Result, names: Sequence[str]) -> None:
    """Write a cloud-optimized GeoTIFF of codes, with the largest pixels that are aligned with all cores."""
    import rasterio
    from affine import Affine
    from rasterio.shutil import copy
    from rasterio.windows import Window

    from lhrs.imagery.draw_boxes import color

    scene, rows = result.scene, result.rows
    step = math.gcd(*(v for row in rows for v in row["core"]))
    width, height = scene.width // step, scene.height // step
    dtype = "uint8" if len(names) < 256 else "uint16"
    whole = path.with_name(f".{path.name}.whole.tif")
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": dtype, "crs": scene.crs,
               "transform": Affine(*scene.transform) * Affine.scale(step), "nodata": 0, "tiled": True,
               "blockxsize": _TILE, "blockysize": _TILE, "compress": "deflate", "sparse_ok": True}  # fmt: skip
    try:
        with rasterio.open(whole, "w", **profile) as raster:
            if dtype == "uint8":
                raster.write_colormap(1, {0: (0, 0, 0, 0), **{n + 1: (*color(n), 255) for n in range(len(names))}})
            raster.update_tags(1, **{f"class_{n + 1}": name for n, name in enumerate(names)})
            # One row of windows at a time, to bound memory.
            for top in sorted({row["core"][1] for row in rows}):
                band = [row for row in rows if row["core"][1] == top]
                tall = band[0]["core"][3] // step
                codes = np.zeros((tall, width), dtype)
                for row in band:
                    left, _, across, _ = (v // step for v in row["core"])
                    codes[:, left : left + across] = class_code(row, names)
                raster.write(codes, 1, window=Window(0, top // step, width, tall))
        with atomic_write(path) as part:
            copy(whole, part, driver="COG", compress="deflate", resampling="nearest", blocksize=_TILE)
    finally:
        whole.unlink(missing_ok=True)

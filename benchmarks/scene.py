"""A whole scene against the loop that everybody writes: read the raster into memory, cut it, ask tile by tile.

    python benchmarks/scene.py [--side 20000] [--size 256]

Both ask lhrs-nano for the class of every window of a generated cloud-optimised GeoTIFF, each in a process of its own.
The last line is JSON: seconds, share of the wall time inside the model, peak resident memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def generate(path: Path, side: int) -> None:
    """Fields, roads and roofs at 0.5 m, in blocks that differ."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    whole, block = path.with_suffix(".whole.tif"), 1024
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32632",
               "transform": from_origin(500_000, 5_300_000, 0.5, 0.5), "tiled": True, "blockxsize": 512,
               "blockysize": 512, "compress": "deflate", "zlevel": 1, "bigtiff": "yes"}  # fmt: skip
    base = np.random.default_rng(0).integers(0, 60, (3, 2 * block, 2 * block), np.uint8)
    with rasterio.open(whole, "w", **profile) as raster:
        for top in range(0, side, block):
            for left in range(0, side, block):
                rng = np.random.default_rng([1, top, left])
                tall, wide = min(block, side - top), min(block, side - left)
                y, x = rng.integers(0, block, 2)
                part = base[:, y : y + tall, x : x + wide] + rng.integers(40, 150, (3, 1, 1)).astype(np.uint8)
                for _ in range(40):
                    y, x, h, w = rng.integers(0, block - 64), rng.integers(0, block - 64), *rng.integers(12, 64, 2)
                    part[:, y : y + h, x : x + w] = rng.integers(0, 256, (3, 1, 1))
                raster.write(part, window=Window(left, top, wide, tall))
    copy(whole, path, driver="COG", compress="deflate", level=1, blocksize=512, bigtiff="yes")
    whole.unlink()


def measured(function) -> dict:
    """Run in this process, with the model's time taken."""
    from lhrs.scene.window_inference import SceneQuery, cached_model

    runtime = cached_model(SceneQuery("classify")).runtime
    ask, inside = runtime.generate, [0.0]

    def timed(requests, on_text=None):
        start = time.perf_counter()
        found = ask(requests, on_text)
        inside[0] += time.perf_counter() - start
        return found

    runtime.generate = timed
    start = time.perf_counter()
    windows = function()
    wall = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()  # getrusage would count what this process was forked from
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**20
    return {"windows": windows, "seconds": round(wall, 1), "model_share": round(inside[0] / wall, 4),
            "peak_rss_gib": round(peak, 3), "ms_per_window": round(1000 * wall / windows, 2)}  # fmt: skip


def ours(path: Path, size: int) -> int:
    from lhrs.scene.run import SceneConfig, run
    from lhrs.scene.window_inference import SceneQuery

    with tempfile.TemporaryDirectory() as out:
        manifest = run(SceneConfig(scenes=(str(path),), out=Path(out) / "out", query=SceneQuery("classify"), size=size))
    return manifest["scenes"][0]["answered"]


def naive(path: Path, size: int) -> int:
    import rasterio

    from lhrs.scene.window_inference import SceneQuery, cached_model

    with rasterio.open(path) as raster:
        pixels = raster.read().transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    assistant, count = cached_model(SceneQuery("classify")), 0
    for top in range(0, height, size):
        for left in range(0, width, size):
            assistant.classify(np.ascontiguousarray(pixels[top : top + size, left : left + size]))
            count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="of the scene in pixels")
    parser.add_argument("--size", type=int, default=256, help="of a window in pixels")
    parser.add_argument("--scene", type=Path, help="instead of a generated one")
    parser.add_argument("--one", choices=["ours", "naive"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(lambda: {"ours": ours, "naive": naive}[options.one](options.scene, options.size))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.scene or Path(folder) / "scene.tif"
        if options.scene is None:
            generate(path, options.side)
            print(f"{path.name}: {options.side} x {options.side}, {path.stat().st_size / 2**20:.0f} MiB", flush=True)
        found = {}
        for name in ("ours", "naive"):
            command = [sys.executable, __file__, "--one", name, "--scene", str(path), "--size", str(options.size)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, found[name], flush=True)
    found["faster"] = round(found["naive"]["seconds"] / found["ours"]["seconds"], 2)
    found["memory"] = round(found["naive"]["peak_rss_gib"] / found["ours"]["peak_rss_gib"], 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

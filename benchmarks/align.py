"""Footprints a second from a map to captions, on one core, beside clipping a GeoDataFrame tile by tile.

    python benchmarks/align.py [--osm FILE.osm.pbf] [--nodes 5000000] [--size 256] [--gsd 1] [--rounds 3]

Without --osm a map of about --nodes nodes is generated (seed 0): 20 buildings and 3 roads per footprint of 256 m, and
woods, meadows and villages as multipolygons over it. The command is `lhrs align build --layout grid` as users run
it, with its start, reading of the map, and writing. The peer does less: it reads the map with geopandas and clips the
buildings and land of a sample of the same footprints, with its spatial index, without facts or captions.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HOME = Path(__file__).parents[1]
CENTER = (15.0, 48.0)


def generate(path: Path, num_nodes: int) -> tuple[float, float, float, float]:
    """Write a map; return its region."""
    import osmium

    per_footprint = 20 * 4 + 3 * 8
    side_m = 256 * math.ceil(math.sqrt(num_nodes / per_footprint))
    rng = np.random.default_rng(0)
    to_lon, to_lat = 1 / (111_320 * math.cos(math.radians(CENTER[1]))), 1 / 110_574
    num_houses, num_roads = num_nodes * 20 // per_footprint, num_nodes * 3 // per_footprint
    lots = math.ceil(math.sqrt(num_houses))  # a lot for each, so that they do not overlap
    at = rng.permutation(lots * lots)[:num_houses]
    corners = np.stack([at % lots, at // lots], 1) * (side_m / lots) + rng.uniform(
        15, side_m / lots - 15, (num_houses, 2)
    )
    turns, sizes = rng.uniform(0, math.pi, num_houses), rng.uniform(4, 12, (num_houses, 2))
    starts, headings = rng.uniform(0, side_m, (num_roads, 2)), rng.uniform(0, 2 * math.pi, num_roads)
    number = way = 0
    ways: list[tuple[int, list[int], dict[str, str]]] = []
    mutable = osmium.osm.mutable
    with osmium.SimpleWriter(str(path), overwrite=True) as writer:

        def add(points: np.ndarray, closed: bool, tags: dict[str, str]) -> int:
            nonlocal number, way
            refs = []
            for x, y in points.tolist():
                number += 1
                writer.add_node(
                    mutable.Node(id=number, location=(CENTER[0] + x * to_lon, CENTER[1] + y * to_lat), version=1)
                )
                refs.append(number)
            way += 1
            ways.append((way, refs + refs[:1] if closed else refs, tags))
            return way

        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        for corner, turn, size in zip(corners, turns, sizes, strict=True):
            c, s = math.cos(turn), math.sin(turn)
            add(corner + (square * size) @ np.array([[c, s], [-s, c]]), True, {"building": "yes"})
        steps = np.arange(8)[:, None] * 40
        for start, heading in zip(starts, headings, strict=True):
            bend = heading + 0.1 * np.arange(8)[:, None]
            add(start + steps * np.concatenate([np.cos(bend), np.sin(bend)], 1), False, {"highway": "residential"})
        relations = []
        angle = np.linspace(0, 2 * math.pi, 60, endpoint=False)[:, None]
        for n in range(num_nodes // 1250):
            middle, radius = rng.uniform(0, side_m, 2), rng.uniform(60, 400)
            outer = add(middle + radius * np.concatenate([np.cos(angle), np.sin(angle)], 1), True, {})
            inner = add(middle + radius / 4 * np.concatenate([np.cos(angle), np.sin(angle)], 1), True, {})
            relations.append((n + 1, outer, inner, ("forest", "meadow", "residential")[n % 3]))
        for identity, refs, tags in ways:
            writer.add_way(mutable.Way(id=identity, nodes=refs, tags=tags, version=1))
        for identity, outer, inner, landuse in relations:
            members = [("w", outer, "outer"), ("w", inner, "inner")]
            tags = {"type": "multipolygon", "landuse": landuse}
            writer.add_relation(mutable.Relation(id=identity, members=members, tags=tags, version=1))
    return CENTER[0], CENTER[1], CENTER[0] + side_m * to_lon, CENTER[1] + side_m * to_lat


def one_core() -> None:
    """Keep a child process on one core."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})


def build(osm: Path, region: tuple | None, size: int, gsd: float) -> tuple[float, float, dict]:
    """Run the command; return seconds, peak GiB and the manifest."""
    with tempfile.TemporaryDirectory() as folder:
        where = ["--bbox", *map(str, region)] if region else []
        command = [sys.executable, "-m", "lhrs", "align", "build", "--osm", str(osm), "--layout", "grid", *where,
                   "--size", str(size), "--gsd", str(gsd), "--out", f"{folder}/ds"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(HOME / "src"), "OMP_NUM_THREADS": "1"}
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, preexec_fn=one_core)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit("the build failed")
        return seconds, usage.ru_maxrss / 2**20, json.loads(Path(folder, "ds/manifest.json").read_text())


STORE = """
import sys
from pathlib import Path
from lhrs.align.osm import read_features
from lhrs.align.feature_store import write_store
write_store(Path(sys.argv[2]), read_features(Path(sys.argv[1])))
"""


def store(osm: Path) -> float:
    """Return seconds of start, reading the map and sorting its features: what is done before the first footprint."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", STORE, str(osm), f"{folder}/s.parquet"]
        start = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(HOME / "src"), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, preexec_fn=one_core, check=True)
        return time.perf_counter() - start


PEER = """
import sys, time, geopandas, pandas
from lhrs.align.footprints import footprint_grid, lonlat_corners
import shapely
osm, size, gsd, count = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
west, south, east, north = map(float, sys.argv[5:])
start = time.perf_counter()
areas = geopandas.read_file(osm, layer="multipolygons")
lines = geopandas.read_file(osm, layer="lines")
read = time.perf_counter() - start
footprints = list(footprint_grid((west, south, east, north), size, gsd))
tiles = [shapely.Polygon(c) for c in lonlat_corners(footprints[:: max(1, len(footprints) // count)])]
crs = footprints[0].crs
areas, lines = areas.to_crs(crs), lines.to_crs(crs)
tiles = geopandas.GeoSeries(tiles, crs=4326).to_crs(crs)
areas.sindex, lines.sindex
start = time.perf_counter()
for tile in tiles:
    for frame in (areas, lines):
        clipped = frame.clip(tile)
        clipped.area.sum(), clipped.length.sum()
seconds = time.perf_counter() - start
print(read, seconds, len(tiles), len(footprints))
"""


def peer(osm: Path, region: tuple, size: int, gsd: float, count: int) -> tuple[float, float, float]:
    """Clip with geopandas; return seconds of reading, footprints a second without it, peak GiB."""
    environment = {**os.environ, "PYTHONPATH": str(HOME / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", PEER, str(osm), str(size), str(gsd), str(count), *map(str, region)]
    process = subprocess.Popen(command, env=environment, preexec_fn=one_core, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    read, seconds, done, _ = map(float, process.stdout.read().split())
    _, _, usage = os.wait4(process.pid, 0)
    return read, done / seconds, usage.ru_maxrss / 2**20


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osm", type=Path)
    parser.add_argument("--nodes", type=int, default=5_000_000)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--gsd", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=300, help="footprints that the peer clips")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        osm, region = options.osm, None
        if osm is None:
            osm = Path(folder) / "generated.osm.pbf"
            region = generate(osm, options.nodes)
            print(f"generated {osm.stat().st_size / 2**20:.0f} MiB", file=sys.stderr)
        runs = [build(osm, region, options.size, options.gsd) for _ in range(options.rounds)]
        manifest = runs[0][2]
        footprints, captions = manifest["num_footprints"], manifest["num_images"]
        seconds, memory = statistics.median(r[0] for r in runs), max(r[1] for r in runs)
        bounds = region or tuple(manifest["bounds"])
        before = statistics.median(store(osm) for _ in range(options.rounds))
        read, rate, peer_memory = peer(osm, bounds, options.size, options.gsd, options.tiles)
    after = seconds - before
    print("| | footprints | with captions | s in all | footprints/s | captions/s | peak GiB |")
    print("|---|---|---|---|---|---|---|")
    print(f"| lhrs align build | {footprints:,} | {captions:,} | {seconds:.1f} | {footprints / seconds:,.0f} | "
          f"{captions / seconds:,.0f} | {memory:.2f} |")  # fmt: skip
    print(f"| of it, from sorted features to captions | {footprints:,} | {captions:,} | {after:.1f} | "
          f"{footprints / after:,.0f} | {captions / after:,.0f} | |")  # fmt: skip
    whole = read + footprints / rate
    print(f"| geopandas, clip per tile | {footprints:,} | - | {whole:.0f} (from {options.tiles}) | "
          f"{footprints / whole:,.0f} | - | {peer_memory:.2f} |")  # fmt: skip
    print(json.dumps({
        "footprints_per_s": footprints / seconds, "described_per_s": footprints / after,
        "captions_per_s": captions / seconds, "peak_rss_gib": memory, "ratio": whole / seconds,
    }))  # fmt: skip


if __name__ == "__main__":
    main()

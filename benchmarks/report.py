"""What every benchmark prints: a small table for people, one JSON line for programs."""

import json
import os
import platform
from statistics import median


def report(benchmark: str, timings_s: dict[str, list[float]], targets_s: dict[str, float]) -> None:
    """Print the median, the spread and the target of each measurement.

    Args:
        benchmark: name in the JSON line.
        timings_s: repeated timings in seconds by what was measured.
        targets_s: upper bounds in seconds that the medians should keep.
    """
    width = max(map(len, timings_s))
    print(f"{'':{width}}  {'median':>9} {'fastest':>9} {'slowest':>9} {'target':>9}   n")
    for name, values in timings_s.items():
        target = targets_s.get(name)
        bound = "" if target is None else f"{target:.2f} s"
        times = " ".join(f"{f(values):7.3f} s" for f in (median, min, max))
        print(f"{name:{width}}  {times} {bound:>9} {len(values):3}")
    record = {
        "benchmark": benchmark,
        "median_s": {name: round(median(values), 4) for name, values in timings_s.items()},
        "target_s": targets_s,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(record))

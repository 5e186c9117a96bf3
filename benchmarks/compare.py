"""Is this checkout slower than another? Every benchmark of both, in turn, on the same machine.

    python benchmarks/compare.py BASE                  # all benchmarks, 3 rounds
    python benchmarks/compare.py BASE startup scoring -n 7 --limit 1.03
    python benchmarks/compare.py BASE --cpu        # CPU seconds of the whole process, where other work runs too

BASE is the folder of another checkout, such as `git worktree add ../base v0.1`. Each round runs a benchmark in both
checkouts, each with its own file of the benchmark and its own src/, in alternating order, so that a change of the
machine's load meets both. A ratio is the time of this checkout over that of BASE: the median over rounds of the pairs.
Exit code 1 if a ratio is above the limit or a benchmark fails.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).parents[1]


class Benchmark(NamedTuple):
    """How a benchmark is run, and where its output has seconds."""

    arguments: tuple[str, ...]
    """Sizes that take at most about a minute on two cores."""
    seconds: Callable[[str], dict[str, float]]
    """Returns seconds by what was measured; a rate counts as the seconds of one."""


def _medians(output: str) -> dict[str, float]:
    """Read what `report.py` prints."""
    return dict(json.loads(output.splitlines()[-1])["median_s"])


def _json(*times: str, rates: tuple[str, ...] = ()) -> Callable[[str], dict[str, float]]:
    """Read entries such as `many.answers_per_s` of the JSON line."""

    def read(output: str) -> dict[str, float]:
        record: Any = json.loads(output.splitlines()[-1])
        values = {}
        for name in (*times, *rates):
            value = record
            for key in name.split("."):
                value = value[key]
            values[name] = 1 / float(value) if name in rates else float(value)
        return values

    return read


def _text(pattern: str, is_rate: bool = False) -> Callable[[str], dict[str, float]]:
    """Read every number that a pattern finds, in order."""

    def read(output: str) -> dict[str, float]:
        found = [float(number) for number in re.findall(pattern, output)]
        return {f"number {n}": 1 / value if is_rate else value for n, value in enumerate(found, 1)}

    return read


BENCHMARKS = {
    "align": Benchmark(
        ("--nodes", "500000", "--rounds", "1", "--tiles", "50"), _json(rates=("footprints_per_s", "described_per_s"))
    ),
    "chat": Benchmark(("-n", "2"), _medians),
    "classify_1000": Benchmark(("-n", "1"), _medians),
    "cmid_input": Benchmark(("-n", "3"), _text(r"([\d.]+) ms")),
    "cmid_step": Benchmark(("--backbone", "resnet18", "--batch", "4", "--steps", "3"), _json("cpu_s_per_step")),
    "generation": Benchmark(("-n", "1"), _text(r"-> +([\d.]+) tokens/s", is_rate=True)),
    "rotated": Benchmark(("--repeats", "3"), _medians),
    "scene": Benchmark(("--side", "4000"), _json("ours.ms_per_window")),
    "scoring": Benchmark(("-n", "3"), _text(r"([\d.]+) CPU-s")),
    "serving": Benchmark(("--seconds", "10"), _json(rates=("one.answers_per_s", "many.answers_per_s"))),
    "startup": Benchmark(("-n", "5"), _medians),
    "training": Benchmark(("-n", "1"), _text(r"(?:padded \d+ tokens,|packed \d+,|ours|grouped) ([\d.]+) s")),
}


def run(checkout: Path, name: str, cpu: bool) -> dict[str, float]:
    """Run a benchmark of a checkout with its own code and return its seconds, or those of its processes on the CPU."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(checkout / f"benchmarks/{name}.py"), *BENCHMARKS[name].arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{checkout}: {name} failed: {done.stderr.strip().splitlines()[-1:]}")
    if cpu:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {"CPU-s of the process": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    return BENCHMARKS[name].seconds(done.stdout)


def compare(base: Path, name: str, rounds: int, cpu: bool) -> dict[str, tuple[float, float, float]]:
    """Return (seconds of base, seconds of ours, ratio) by what was measured."""
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(rounds):
        order = (base, HERE) if number % 2 == 0 else (HERE, base)
        first, second = (run(checkout, name, cpu) for checkout in order)
        pairs.append((first, second) if number % 2 == 0 else (second, first))
    old, new = ({key for pair in pairs for key in pair[side]} for side in (0, 1))
    if old != new:
        raise RuntimeError(f"{name} does not measure the same in both: {sorted(old ^ new)}")
    result = {}
    for key in pairs[0][1]:
        ratio = median(ours[key] / theirs[key] for theirs, ours in pairs)
        result[key] = (median(pair[0][key] for pair in pairs), median(pair[1][key] for pair in pairs), ratio)
    return result


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="folder of the other checkout")
    parser.add_argument("benchmarks", nargs="*", help=f"default: all of {', '.join(BENCHMARKS)}")
    parser.add_argument("-n", type=int, default=3, help="rounds")
    parser.add_argument("--limit", type=float, default=1.03, help="largest ratio allowed")
    parser.add_argument("--cpu", action="store_true", help="compare the CPU seconds of the whole process")
    options = parser.parse_args()
    if unknown := set(options.benchmarks) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {min(unknown)}: {', '.join(BENCHMARKS)}")
    is_slower = False
    print(f"{'':44} {'base':>10} {'here':>10} {'ratio':>7}")
    for name in options.benchmarks or BENCHMARKS:
        try:
            found = compare(options.base.resolve(), name, options.n, options.cpu)
        except RuntimeError as error:
            print(error)
            is_slower = True
            continue
        for what, (old, new, ratio) in found.items():
            mark = " SLOWER" if ratio > options.limit else ""
            print(f"{f'{name}: {what}':44} {old:10.4g} {new:10.4g} {ratio:7.3f}{mark}", flush=True)
            is_slower = is_slower or ratio > options.limit
    return 1 if is_slower else 0


if __name__ == "__main__":
    sys.exit(main())

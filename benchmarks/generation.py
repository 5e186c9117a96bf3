"""Batches and shared images: `python benchmarks/generation.py [-n 3]`. Medians; ratios within one run.

Answers are of fixed length: nothing ends them early.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lhrs.inference.runtime import Request, Runtime
from models import runtimes

TOKENS = 64
WORDS = "is there a river or a forest near the town and what else can be seen in this image ?".split()  # noqa: SIM905


def questions(count: int, images: list[np.ndarray], tokens: int) -> list[Request]:
    """Questions of 4 to 19 words."""
    ask = lambda n: " ".join(WORDS[: 4 + n % 16])  # noqa: E731
    return [Request((images[n % len(images)],), ask(n), max_new_tokens=tokens) for n in range(count)]


def seconds(runtime: Runtime, batches: list[list[Request]], forget: bool) -> float:
    start = time.perf_counter()
    for batch in batches:
        if forget:
            runtime._engine._last = None  # every call begins anew
        runtime.generate(batch)
    return time.perf_counter() - start


def compare(name: str, rounds: int, slow: Callable[[], float], fast: Callable[[], float], tokens: int) -> None:
    timings = [(slow(), fast()) for _ in range(rounds)]
    one, many = (float(np.median([t[k] for t in timings])) for k in (0, 1))
    ratio = float(np.median([a / b for a, b in timings]))
    print(f"  {name:52} {tokens / one:8.0f} -> {tokens / many:8.0f} tokens/s   {ratio:5.1f} x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3, help="rounds")
    rounds = parser.parse_args().n
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        for name, runtime in runtimes(Path(folder)).items():
            runtime.end = ()
            print(name)
            seconds(runtime, [questions(4, images, 4)], forget=True)
            for what, pictures in (("sixteen images", images), ("one image", images[:1])):
                one, longer = (questions(16, pictures, count) for count in (1, 1 + TOKENS))
                shared = len(pictures) == 1

                def alone(asked: list[Request], shared: bool = shared) -> float:
                    return seconds(runtime, [[r] for r in asked], forget=not shared)

                def together(asked: list[Request]) -> float:
                    return seconds(runtime, [asked], forget=True)

                count = 16 * TOKENS
                compare(f"batch 1 -> 16, {what}", rounds, lambda: alone(longer), lambda: together(longer), count)
                compare(
                    f"batch 1 -> 16, {what}, all after the first token",
                    rounds,
                    lambda: alone(longer) - alone(one),
                    lambda: together(longer) - together(one),
                    count,
                )
            for length in (2, 16):
                ten = questions(10, images[:1], length)
                compare(
                    f"ten calls -> ten questions at once, {length} tokens each",
                    rounds,
                    lambda ten=ten: seconds(runtime, [[r] for r in ten], forget=True),
                    lambda ten=ten: seconds(runtime, [ten], forget=True),
                    10 * length,
                )


if __name__ == "__main__":
    main()

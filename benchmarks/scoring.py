"""Seconds to score a million answers and a million box pairs on one core: `python benchmarks/scoring.py [-n 3]`."""

import argparse
import statistics
import time

import numpy as np

from lhrs.boxes import iou_pairs, polygon_iou_pairs
from lhrs.metrics.iou import oriented_corners
from lhrs.metrics.vqa import judge_vqa, score_vqa

COUNT = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    rounds = parser.parse_args().n
    rng = np.random.default_rng(0)
    words = ["yes", "no", "Yes, there is.", "12", "twelve", "rural", "a river", "I cannot tell", ""]
    few = [words[i] for i in rng.integers(0, len(words), COUNT)]
    truth = [words[i] for i in rng.integers(0, 6, COUNT)]
    many = [f"{word} {i}" for i, word in enumerate(few)]
    corner = rng.uniform(0, 500, (2, COUNT, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 200, corner.shape)], -1)
    turned = np.concatenate([boxes, rng.uniform(-3, 3, (2, COUNT, 1))], -1)[:, : COUNT // 20]
    jobs = {
        "1 M answers, few different": lambda: score_vqa(few, truth, truth),
        "1 M answers, all different": lambda: score_vqa(many, truth, truth),
        "1 M box pairs": lambda: iou_pairs(*boxes),
        "50,000 oriented box pairs": lambda: polygon_iou_pairs(*map(oriented_corners, turned)),
    }
    for name, job in jobs.items():
        timings = []
        for _ in range(rounds):
            judge_vqa.cache_clear()
            start = time.process_time()
            job()
            timings.append(time.process_time() - start)
        print(f"{name:28} {statistics.median(timings):6.2f} CPU-s")


if __name__ == "__main__":
    main()

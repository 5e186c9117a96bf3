"""Rotated IoU and NMS of 2,000 boxes: `python benchmarks/rotated.py [--device cuda]`.

Scattered boxes, as proposals on a tile, and crowded ones that all overlap, which is the worst case. Two CPU threads.
"""

import argparse
import math
import time
from functools import partial

import torch
from report import report

from lhrs.downstream.detect.rotated_boxes import rotated_iou, rotated_nms

COUNT = 2000


def boxes(size: float, device: str) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    place, sides, turn = (torch.rand(COUNT, n, generator=random) for n in (2, 2, 1))
    return torch.cat([place * size, 2 + sides * 120, (turn - 0.5) * math.pi], 1).to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(2)
    scores = torch.rand(COUNT, generator=torch.Generator().manual_seed(1)).to(options.device)
    labels = torch.zeros(COUNT, dtype=torch.long, device=options.device)
    timings: dict[str, list[float]] = {}
    for name, size in (("scattered", 1024.0), ("crowded", 10.0)):
        made = boxes(size, options.device)
        for what, work in (
            ("IoU", partial(rotated_iou, made, made.flip(0))),
            ("NMS", partial(rotated_nms, made, scores, labels, 0.1)),
        ):
            work()
            for _ in range(options.repeats):
                if options.device != "cpu":
                    torch.cuda.synchronize()
                started = time.perf_counter()
                work()
                if options.device != "cpu":
                    torch.cuda.synchronize()
                timings.setdefault(f"{what}, {name}", []).append(time.perf_counter() - started)
    report("rotated", timings, {"IoU, scattered": 3.0, "IoU, crowded": 3.0})


if __name__ == "__main__":
    main()

"""Horizontal and oriented detectors on NWPU VHR-10, and whether each can learn ten images by heart.

    python dev/detect_study.py run --overfit --out results/detect/study.jsonl [--boxes oriented]
    python dev/detect_study.py run --out results/detect/study.jsonl [--backbone runs/cmid/backbone] [--device cuda]
    python dev/detect_study.py table --out results/detect/study.jsonl

Runs of `lhrs finetune detect`. Oriented boxes are the smallest rectangles around VHR-10's polygons. Same for both:
backbone, pyramid, images (longer side `--side` pixels, the eight symmetries), steps, AdamW. A tenth of the 520 training
images chooses the weights, the 67 test images are scored once. mAP50 is VOC 2012's: each detector's own boxes against
its own truth, and, so that the two can be compared, the horizontal boxes around both.

`--overfit` learns ten training images without symmetries and scores the last weights on them (45 objects): at least
0.9 is expected.

A row that is in the file is not computed again, and a run that was stopped goes on from its checkpoint in --runs.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.downstream import load_predictor
from lhrs.downstream.reader import open_labelled
from lhrs.downstream.score import score
from lhrs.training.finetune import MODEL, SCORES, finetune
from lhrs.training.finetune_run import DetectRun

DATA = Path(__file__).parents[2] / "shared/data/vhr10"
OVERFIT = 10
NAMES = ("map50", "map50_horizontal", "map75", "map50_voc07")
_T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def settings(boxes: str, seed: int, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what all runs share."""
    return {
        "kind": "finetune-detect", "out": str(options.runs / f"{boxes}-{seed}-{steps}"), "seed": seed,
        "cpu": options.device == "cpu", "bf16": True, "threads": options.threads, "workers": options.workers,
        "log_every": 20, "save_every": 100, "backbone": {"name": options.backbone}, "oriented": boxes == "oriented",
        "size": options.side, "width": 64, "anchor_scale": 4, "proposals": 100,
        "fit": {"lr": options.lr, "steps": steps, "batch_size": options.batch, "max_grad_norm": 10},
    }  # fmt: skip


def overfit(boxes: str, options: argparse.Namespace) -> dict[str, Any]:
    """Learn ten images by heart; another one only satisfies the engine, the last weights are the result."""
    items = open_labelled("detect", DATA, split="train").items
    ids = [item.id for item in items[:: len(items) // OVERFIT][:OVERFIT]]
    made = settings(boxes, 0, options.overfit_steps, options) | {"augment": False, "validations": 1}
    part = {"path": str(DATA), "split": "train"}
    made["out"] += "-overfit"
    made["data"] = {"train": {**part, "only": ids}, "val": {**part, "only": [items[1].id]}}
    run = carry_out(made)
    return score(load_predictor(run.out / MODEL), open_labelled("detect", DATA, split="train", only=ids))


def held_out(boxes: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of the test split."""
    made = settings(boxes, seed, options.steps, options) | {"validations": 4}
    made["data"] = {part: {"path": str(DATA), "split": part} for part in ("train", "test")}
    run = carry_out(made)
    return json.loads((run.out / SCORES).read_text())["test"]


def carry_out(made: dict[str, Any]) -> DetectRun:
    """Train to the end, from the newest checkpoint if there is one."""
    run = DetectRun.model_validate(made)
    finetune(run)
    return run


def run(options: argparse.Namespace) -> None:
    """Fill the file with the rows that it lacks."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    budget = {name: getattr(options, name) for name in ("backbone", "side", "batch", "lr")}
    for seed in [0] if options.overfit else map(int, options.seeds.split(",")):
        for boxes in options.boxes.split(","):
            what, steps = ("overfit", options.overfit_steps) if options.overfit else ("score", options.steps)
            key = {"what": what, "boxes": boxes, "seed": seed, "steps": steps, **budget}
            if any(all(old.get(name) == value for name, value in key.items()) for old in done):
                continue
            start, cpu = time.time(), time.process_time()
            found = overfit(boxes, options) if options.overfit else held_out(boxes, seed, options)
            spent = {"wall_s": round(time.time() - start), "cpu_s": round(time.process_time() - cpu)}
            new = {**key, **found, **spent}
            with options.out.open("a") as file:
                file.write(json.dumps(new) + "\n")
            print(new, flush=True)
            shutil.rmtree(settings(boxes, seed, steps, options)["out"] + "-overfit" * options.overfit)


def table(options: argparse.Namespace) -> None:
    """Print means over seeds with 95 % intervals (Student's t)."""
    found: dict[tuple, list[dict]] = {}
    for one in map(json.loads, options.out.read_text().splitlines()):
        key = (*(one[name] for name in ("what", "boxes", "steps", "side", "batch", "lr")), Path(one["backbone"]).name)
        found.setdefault(key, []).append(one)
    print(
        f"| | boxes | steps | side | batch | lr | backbone | seeds | {' | '.join(NAMES)} | CPU-s a run |\n"
        f"{'|---' * (len(NAMES) + 9)}|"
    )
    for key, of in found.items():
        cells = []
        for name in NAMES:
            values = np.array([one[name] for one in of])
            spread = float("nan")
            if len(values) in _T95:
                spread = _T95[len(values)] * values.std(ddof=1) / len(values) ** 0.5
            cells.append(f"{values.mean():.3f} +- {spread:.3f}")
        cost = np.mean([one["cpu_s"] for one in of])
        print(f"| {' | '.join(map(str, key))} | {len(of)} | {' | '.join(cells)} | {cost:.0f} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("results/detect/study.jsonl"))
    parser.add_argument("--runs", type=Path, default=Path("runs/detect-study"))
    parser.add_argument("--overfit", action="store_true", help="ten images by heart, nothing else")
    parser.add_argument("--backbone", default="resnet18", help="timm's name, from random weights, or a folder")
    parser.add_argument("--boxes", default="horizontal,oriented")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--overfit-steps", type=int, default=320)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    (run if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()

"""Horizontal and oriented detectors on NWPU VHR-10, and whether each can learn ten images by heart.

    python dev/detect_study.py run --out results/detect/study.jsonl [--backbone runs/cmid/backbone] [--device cuda]
    python dev/detect_study.py table --out results/detect/study.jsonl

Oriented boxes are the smallest rectangles around VHR-10's polygons. Same for both: backbone, pyramid, images (longer
side `--side` pixels, the eight symmetries), steps, AdamW with warm-up and cosine. mAP50 is VOC 2012's, on the 67 test
images: each detector's own boxes against its own truth, and, so that the two can be compared, the horizontal boxes
around both. `overfit` learns ten training images without symmetries and is scored on them: at least 0.9 is expected.

A row that is in the file is not computed again, so the study goes on where it stopped.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from lhrs.data.datasets.coco_boxes import CocoBoxes
from lhrs.data.keyed import KeyedSampler, seed_step
from lhrs.downstream.detect.data import DetectionData, collate, horizontal_corners, to_detected
from lhrs.downstream.detect.horizontal import HorizontalRCNN
from lhrs.downstream.detect.oriented_rcnn import OrientedRCNN
from lhrs.downstream.detect.rotated import around
from lhrs.metrics.detection import Objects, mean_average_precision

DATA = Path(__file__).parents[2] / "shared/data/vhr10"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OVERFIT = 10


class Backbone(nn.Module):
    """A timm model or a folder that `lhrs pretrain` wrote, as four maps."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.pretrained = Path(source).is_dir()
        name = f"local-dir:{source}" if self.pretrained else source
        self.model = timm.create_model(
            name, pretrained=self.pretrained, features_only=True, out_indices=(-4, -3, -2, -1)
        )  # fmt: skip
        self.channels = self.model.feature_info.channels()

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return self.model(pixels)


def data(split: str, oriented: bool, options: argparse.Namespace, **settings: object) -> DetectionData:
    classes = sorted({c["name"] for c in json.loads((DATA / "coco.json").read_text())["categories"]})
    return DetectionData(
        CocoBoxes(DATA, split), classes, oriented, MEAN, STD, options.side, **settings  # type: ignore[arg-type]
    )  # fmt: skip


def train(
    model: nn.Module, images: DetectionData, keep: int, steps: int, seed: int, options: argparse.Namespace
) -> None:
    model.to(options.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), options.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=steps, pct_start=0.1)
    sampler, done = KeyedSampler(keep, seed), 0
    for epoch in range(10**6):
        sampler.set_epoch(epoch)
        loader = torch.utils.data.DataLoader(
            images, options.batch, sampler=sampler, collate_fn=collate, num_workers=options.workers, drop_last=True
        )
        for batch in loader:
            seed_step(seed, done)
            targets = [{name: value.to(options.device) for name, value in t.items()} for t in batch["targets"]]
            with torch.autocast(torch.device(options.device).type, torch.bfloat16, options.device != "cpu"):
                losses = model(batch["pixels"].to(options.device), targets)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 35)
            optimizer.step()
            schedule.step()
            if done % 50 == 0:
                print(done, {name: round(float(value.detach()), 3) for name, value in losses.items()}, flush=True)
            done += 1
            if done == steps:
                return


@torch.no_grad()
def score(model: nn.Module, images: DetectionData, keep: int, options: argparse.Namespace) -> dict[str, float]:
    """mAP50 of the boxes that the model gives, and of the horizontal boxes around them."""
    model.eval()
    own, flat, truth, straight = [], [], [], []
    for index in range(keep):
        batch = collate([images[0, index]])
        found = model(batch["pixels"].to(options.device))[0]
        bounds = {**found, "boxes": around(found["boxes"])} if found["boxes"].shape[1] == 5 else found
        own.append(to_detected(found, batch["scale"][0]))
        flat.append(to_detected(bounds, batch["scale"][0]))
        truth.append(images.truth(index))
        boxes = np.array([box.xyxy for box in images.reader[index].boxes])
        straight.append(Objects(horizontal_corners(boxes), truth[-1].labels))
    count = len(images.classes)
    return {
        "map50": mean_average_precision(own, truth, count).mean,
        "map50_horizontal": mean_average_precision(flat, straight, count).mean,
        "map75": mean_average_precision(own, truth, count, 0.75).mean,
    }


def build(oriented: bool, seed: int, options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(seed)
    backbone = Backbone(options.backbone)
    return (OrientedRCNN if oriented else HorizontalRCNN)(backbone, 10, fixed_norm=backbone.pretrained)


def overfit(oriented: bool, options: argparse.Namespace) -> dict[str, float]:
    model, images = build(oriented, 0, options), data("train", oriented, options)
    train(model, images, OVERFIT, options.overfit_steps, 0, options)
    return score(model, images, OVERFIT, options)


def held_out(oriented: bool, seed: int, options: argparse.Namespace) -> dict[str, float]:
    model, images = build(oriented, seed, options), data("train", oriented, options, augment=True, seed=seed)
    train(model, images, len(images), options.steps, seed, options)
    test = data("test", oriented, options)
    return score(model, test, len(test) if options.images is None else options.images, options)


def run(options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []

    def row(key: dict, compute: Callable[[], dict]) -> None:
        if any(all(old.get(name) == value for name, value in key.items()) for old in done):
            return
        start = time.time()
        new = {**key, **compute(), "seconds": round(time.time() - start)}
        with options.out.open("a") as file:
            file.write(json.dumps(new) + "\n")
        print(new, flush=True)

    budget = {name: getattr(options, name) for name in ("backbone", "side", "batch", "lr")}
    for boxes in options.boxes.split(","):
        key = {"what": "overfit", "boxes": boxes, "steps": options.overfit_steps, **budget}
        row(key, lambda b=boxes: overfit(b == "oriented", options))
    for seed in map(int, options.seeds.split(",")):
        for boxes in options.boxes.split(","):
            key = {"what": "score", "boxes": boxes, "seed": seed, "steps": options.steps, **budget}
            row(key, lambda b=boxes, s=seed: held_out(b == "oriented", s, options))


def table(options: argparse.Namespace) -> None:
    rows = [json.loads(line) for line in options.out.read_text().splitlines()]
    found: dict[tuple, list[dict]] = {}
    for one in rows:
        found.setdefault((one["what"], one["boxes"], Path(one["backbone"]).name, one["steps"]), []).append(one)
    print(
        "| | boxes | backbone | steps | seeds | mAP50 | mAP50 of horizontal bounds | mAP75 |\n|---|---|---|---|---|---|---|---|"
    )
    for (what, boxes, backbone, steps), of in found.items():
        cells = []
        for name in ("map50", "map50_horizontal", "map75"):
            values = np.array([r[name] for r in of])
            # t quantile for 95 % of 2 degrees of freedom where there are three seeds
            spread = 4.303 * values.std(ddof=1) / len(values) ** 0.5 if len(values) == 3 else float("nan")
            cells.append(f"{values.mean():.3f} +- {spread:.3f}")
        print(f"| {what} | {boxes} | {backbone} | {steps} | {len(of)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("results/detect/study.jsonl"))
    parser.add_argument("--backbone", default="resnet18", help="timm's name, from random weights, or a folder")
    parser.add_argument("--boxes", default="horizontal,oriented")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--overfit-steps", type=int, default=600)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--images", type=int, help="of the test split that are scored; to try the script out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)
    (run if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()

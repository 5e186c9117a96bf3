"""CMID beside its own parts and beside other ways to pretrain, at the same budget.

    python dev/cmid_study.py run --out results/cmid/study.jsonl [--methods cmid,byol] [--seeds 0,1,2] [--device cuda]
    python dev/cmid_study.py table --out results/cmid/study.jsonl

Same for all: ResNet-18 (last map at stride 16), 64-pixel views, batches, steps, optimizer family, images without labels
(EuroSAT train, rsvqa_unlabelled, OpenAerialMap tiles), crops and the eight symmetries. Peers change colours in both
views, as their papers do; CMID in one. Losses and heads of peers are lightly's. With several --rates, each method has
one of them, chosen on a run of a third of the steps by 5-NN on 2,000 held-back EuroSAT *train* images, never on test;
with one, all methods have that.
Scores: 20-NN and linear probe on EuroSAT test, dense linear probe on Dubai tile 7.

A row that is in the file is not computed again, so the study goes on where it stopped.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn

from lhrs.cmid.augment import draw_colour
from lhrs.cmid.backbone import to_map
from lhrs.cmid.masking import to_pixels
from lhrs.cmid.model import ema_momentum, set_clean_statistics
from lhrs.cmid.probes import (
    Probe,
    dense_confusion,
    effective_rank,
    knn_accuracy,
    labelled_folder,
    linear_accuracy,
    masked_folder,
)
from lhrs.cmid.views import Views, collate, finish, whole
from lhrs.data.keyed import KeyedSampler, sample_rng, seed_step
from lhrs.data.windows import Windows
from lhrs.imagery.normalization import Normalization
from lhrs.metrics.segmentation import mean_iou
from lhrs.models.timm_folder import write_timm_folder
from lhrs.training.pretrain import pretrain
from lhrs.training.pretrain_run import PretrainRun
from lhrs.training.schedule import make_groups, make_optimizer_of, make_schedule_of

DATA = Path(__file__).parents[2] / "shared/data"
BACKBONE, ARGS, SIZE, WIDTH = "resnet18", {"output_stride": 16}, 64, 512
MEAN, STD = [0.35, 0.38, 0.41], [0.18, 0.13, 0.11]
OFF = {"masked_branch": {"weight": 0}, "global_branch": {"weight": 0}, "local_branch": {"weight": 0}}
CMID = {
    "cmid": [],
    "cmid-global": ["masked_branch", "local_branch"],
    "cmid-masked": ["global_branch", "local_branch"],
}
"""Which branches are off."""
PEERS = ("supervised", "simclr", "mocov2", "byol", "simmim")
RATES = (5e-4, 1.5e-3, 4e-3)


def sources() -> list[Path]:
    return [DATA / "eurosat/train", DATA / "rsvqa_unlabelled", DATA / "banepa/train", DATA / "oam_osm_sites"]


def backbone() -> nn.Module:
    return timm.create_model(BACKBONE, num_classes=0, **ARGS)


def train_cmid(method: str, seed: int, lr: float, options: argparse.Namespace, steps: int) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        run = {
            "kind": "pretrain", "out": folder + "/run", "seed": seed, "cpu": options.device == "cpu", "bf16": True,
            "log_every": 100, "save_every": 10**6, "pictures_every": 10**6, "momentum": 0.99,
            "workers": options.workers,
            "backbone": {"name": BACKBONE, "size": SIZE, "args": ARGS},
            "data": {"paths": [str(p) for p in sources()], "window": 128, "mean": MEAN, "std": STD},
            "masked_branch": {"grid": 8}, "global_branch": {"queue_size": 4096},
            "local_branch": {"matches": 8, "farthest": 8, "hidden": 512, "prototypes": 512,
                             "teacher_temperature": [0.04, 0.04]},
            "fit": {"batch_size": options.batch, "steps": steps, "lr": lr},
        }  # fmt: skip
        for part in CMID[method]:
            run[part] = OFF[part]
        pretrain(PretrainRun.model_validate(run))
        return timm.create_model(f"local-dir:{folder}/run/backbone", pretrained=True)


class BothViews(Views):
    """Colours change in both views."""

    def __getitem__(self, key: tuple[int, int]) -> dict:
        found = super().__getitem__(key)
        found["colours"][0] = torch.from_numpy(draw_colour(sample_rng(self.seed + 31, key)))
        return found


class Labelled(BothViews):
    """Views of EuroSAT with its labels, for supervision."""

    def __init__(self, windows: Windows, labels: np.ndarray, **settings: object) -> None:
        super().__init__(windows, **settings)  # type: ignore[arg-type]
        self.labels = labels

    def __getitem__(self, key: tuple[int, int]) -> dict:
        return {**super().__getitem__(key), "label": int(self.labels[key[1]])}


def train_peer(method: str, seed: int, lr: float, options: argparse.Namespace, steps: int) -> nn.Module:
    """A plain loop: the peers need no more."""
    torch.manual_seed(seed)
    view = {"size": SIZE, "grid": 4, "mask_grid": 8, "seed": seed}
    if method == "supervised":
        files, labels, _ = labelled_folder(DATA / "eurosat/train")
        windows = Windows(files, 128, seed=seed)
        views: Views = Labelled(windows, labels, **view)
    else:
        windows = Windows(sources(), 128, seed=seed)
        views = BothViews(windows, **view)  # type: ignore[arg-type]
    model = _Peer(method).to(options.device).train()
    groups = make_groups(model, 0.02, ())
    optimizer = make_optimizer_of(groups, "adan", lr, (0.98, 0.92, 0.99), 1e-8)
    schedule = make_schedule_of(optimizer, 1e-6, round(0.05 * steps), 0.01, steps)
    mean, std = (torch.tensor(x, device=options.device) for x in (MEAN, STD))
    for step, batch in enumerate(batches(views, seed, options, steps)):
        seed_step(seed, step)
        moved = {name: value.to(options.device, non_blocking=True) for name, value in batch.items()}
        pixels = finish(moved["views"], moved["colours"], 255.0, mean, std)
        with torch.autocast(torch.device(options.device).type, torch.bfloat16):
            loss = model(pixels, moved)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.follow(ema_momentum(step + 1, steps, 0.99))
        if step % 100 == 0:
            print(method, seed, step, round(float(loss.detach()), 3), flush=True)
    if method == "simmim":  # it saw masked images
        at = np.linspace(0, len(windows) - 1, 2048).round().astype(int)
        clean = (torch.stack([whole(windows[0, int(n)], SIZE) for n in at[k : k + 64]]) for k in range(0, 2048, 64))
        set_clean_statistics(model.backbone, (finish(c.to(options.device), None, 255.0, mean, std) for c in clean))
    return model.backbone.cpu()


def batches(views: Views, seed: int, options: argparse.Namespace, steps: int) -> Iterator[dict[str, Tensor]]:
    def join(samples: list[dict]) -> dict[str, Tensor]:
        found = collate(samples, 8, 8.0)
        if "label" in samples[0]:
            found["label"] = torch.tensor([s["label"] for s in samples])
        return found

    sampler, done = KeyedSampler(len(views), seed), 0
    for epoch in range(10**6):
        sampler.set_epoch(epoch)
        loader = torch.utils.data.DataLoader(
            views, options.batch, sampler=sampler, collate_fn=join, num_workers=options.workers, drop_last=True
        )
        for batch in loader:
            yield batch
            done += 1
            if done == steps:
                return


class _Peer(nn.Module):
    def __init__(self, method: str) -> None:
        super().__init__()
        from lightly.loss import NegativeCosineSimilarity, NTXentLoss
        from lightly.models.modules import heads

        self.method, self.backbone = method, backbone()
        if method == "supervised":
            self.head = nn.Linear(WIDTH, 10)
        elif method == "simclr":
            self.head, self.loss = heads.SimCLRProjectionHead(WIDTH, WIDTH, 128), NTXentLoss(0.2)
        elif method == "mocov2":
            self.head = heads.MoCoProjectionHead(WIDTH, 2048, 256)
            self.loss = NTXentLoss(0.2, memory_bank_size=(4096, 256))
        elif method == "byol":
            self.head, self.predictor = (
                heads.BYOLProjectionHead(WIDTH, 1024, 256),
                heads.BYOLPredictionHead(256, 1024, 256),
            )
            self.loss = NegativeCosineSimilarity()
        elif method == "simmim":
            self.head = nn.Sequential(nn.Conv2d(WIDTH, 3 * 16**2, 1), nn.PixelShuffle(16))
        if method in ("mocov2", "byol"):
            self.teacher = nn.ModuleList([copy.deepcopy(self.backbone), copy.deepcopy(self.head)]).requires_grad_(False)

    def forward(self, pixels: Tensor, batch: dict[str, Tensor]) -> Tensor:
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        if self.method == "simmim":
            hidden = to_pixels(batch["mask"], pixels.shape[-2:])
            painted = self.head(to_map(self.backbone, self.backbone.forward_features(pixels * (1 - hidden))))
            return ((painted.float() - pixels).abs() * hidden).sum() / hidden.sum() / 3
        features = self.backbone.forward_features(pixels).mean((2, 3))
        if self.method == "supervised":
            return nn.functional.cross_entropy(
                self.head(features).float(), batch["label"].repeat(2), label_smoothing=0.1
            )
        out = self.head(features)
        if self.method == "simclr":
            return self.loss(*out.float().chunk(2))
        with torch.no_grad():
            wanted = self.teacher[1](self.teacher[0].forward_features(pixels).mean((2, 3))).float()
        if self.method == "mocov2":
            return self.loss(out[: len(out) // 2].float(), wanted[len(out) // 2 :])
        one, two = self.predictor(out).float().chunk(2)
        of_one, of_two = wanted.chunk(2)
        return 0.5 * (self.loss(one, of_two) + self.loss(two, of_one))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        if hasattr(self, "teacher"):
            ours = [*self.backbone.parameters(), *self.head.parameters()]
            torch._foreach_lerp_(list(self.teacher.parameters()), [p.detach() for p in ours], 1 - momentum)


def make(method: str, seed: int, lr: float, options: argparse.Namespace, steps: int) -> nn.Module:
    if method == "random":
        torch.manual_seed(seed)
        return backbone()
    return (train_cmid if method in CMID else train_peer)(method, seed, lr, options, steps)


def held_back(model: nn.Module) -> float:
    """5-NN on every twelfth EuroSAT train image among the others: what learning rates are chosen by."""
    files, labels, _ = labelled_folder(DATA / "eurosat/train")
    probe = Probe(model.eval(), Normalization(max_value=255, mean=MEAN, std=STD), SIZE)
    test = np.arange(len(files)) % 12 == 0
    rest = np.arange(len(files)) % 12 == 5
    x, u = (probe.pooled([f for f, k in zip(files, keep, strict=True) if k]) for keep in (rest, test))
    return float(knn_accuracy(x, labels[rest], u, labels[test], 5).mean())


def score(model: nn.Module, device: str) -> dict:
    model = model.eval().to(device)
    probe = Probe(model, Normalization(max_value=255, mean=MEAN, std=STD), SIZE, device)
    (files, labels, _), (more, wanted, _) = (labelled_folder(DATA / f"eurosat/{s}") for s in ("train", "test"))
    x, u = probe.pooled(files), probe.pooled(more)
    wide = Probe(model, Normalization(max_value=255, mean=MEAN, std=STD), None, device)
    train = [pair for n in (1, 2, 4, 5, 6) for pair in masked_folder(DATA / f"dubai_seg/tile{n}", wide)]
    confusion = dense_confusion(wide, train, masked_folder(DATA / "dubai_seg/tile7", wide), 5)
    return {
        "knn": float(knn_accuracy(x, labels, u, wanted).mean()),
        "linear": float(linear_accuracy(x, labels, u, wanted).mean()),
        "dense_miou": mean_iou(confusion),
        "rank": effective_rank(u),
    }


def scored(method: str, seed: int, lr: float, options: argparse.Namespace) -> dict:
    model = make(method, seed, lr, options, options.steps)
    if options.keep:
        folder = options.keep / f"{method}-{options.steps}-{seed}"
        write_timm_folder(folder, model.state_dict(), BACKBONE, ARGS, SIZE, MEAN, STD)
    return score(model, options.device)


def run(options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []

    def row(key: dict, compute: Callable[[], dict]) -> dict:
        for old in done:
            if all(old.get(name) == value for name, value in key.items()):
                return old
        start = time.time()
        new = {**key, **compute(), "seconds": round(time.time() - start)}
        done.append(new)
        with options.out.open("a") as file:
            file.write(json.dumps(new) + "\n")
        print(new, flush=True)
        return new

    budget = {"steps": options.steps, "batch": options.batch}
    for seed in map(int, options.seeds.split(",")):
        for method in options.methods.split(","):
            lr = options.rates[0]
            if len(options.rates) == 1:
                lr = options.rates[0]
            elif method != "random":
                few = options.steps // 3
                tried = {
                    rate: row({"what": "rate", "method": method, "lr": rate, **budget},
                              lambda m=method, r=rate: {"held_back": held_back(make(m, 100, r, options, few))})
                    for rate in options.rates
                }  # fmt: skip
                lr = max(tried, key=lambda rate: tried[rate]["held_back"])
            key = {"what": "score", "method": method, "seed": seed, **budget}
            row(key, lambda m=method, s=seed, r=lr: {"lr": r, **scored(m, s, r, options)})


def table(options: argparse.Namespace) -> None:
    """Print means over seeds, and what CMID has more than each other method, paired by seed; 95 %, Student's t."""
    found: dict[str, dict[int, dict]] = {}
    for one in map(json.loads, options.out.read_text().splitlines()):
        if one["what"] == "score":
            found.setdefault(one["method"], {})[one["seed"]] = one

    def cell(values: list[float], sign: str = "") -> str:
        if len(values) != 3:
            return f"{np.mean(values):{sign}.3f} of {len(values)}" if values else ""
        # t quantile for 95 % of 2 degrees of freedom
        return f"{np.mean(values):{sign}.3f} ± {4.303 * np.std(values, ddof=1) / 3**0.5:.3f}"

    names = ("knn", "linear", "dense_miou")
    print("| method | 20-NN | linear | Dubai dense mIoU | rank | CMID - it: 20-NN | linear | dense |")
    print("|---|---|---|---|---|---|---|---|")
    cmid = found.get("cmid", {})
    for method, of in sorted(found.items(), key=lambda item: -np.mean([r["linear"] for r in item[1].values()])):
        cells = [cell([one[name] for one in of.values()]) for name in names]
        cells.append(f"{np.mean([one['rank'] for one in of.values()]):.0f}")
        both = [] if method == "cmid" else sorted(cmid.keys() & of.keys())
        cells += [cell([cmid[seed][name] - of[seed][name] for seed in both], "+") for name in names]
        print(f"| {method} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--out", type=Path, default=Path("results/cmid/study.jsonl"))
    parser.add_argument("--methods", default=",".join(["random", *CMID, *PEERS]))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep", type=Path, help="folder for the backbones, which timm and `lhrs finetune` load")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    (run if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()

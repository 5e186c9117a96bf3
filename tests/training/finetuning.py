"""Run files of `lhrs finetune` on tiny data."""

from pathlib import Path
from typing import Any

from tests.training.tiny import write_run

from lhrs.training.dispatch import load_run, train

MIXED = {
    "augment": {"mixup": 0.8, "cutmix": 1.0, "randaugment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25},
    "dropout": 0.2,
}
FEW = {"optim": {"batch_size": 2, "steps": 12, "lr": 3e-3}}


def settings(kind: str, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Return the settings of a short run."""
    run: dict[str, Any] = {
        "kind": kind, "output_dir": str(out), "device": "cpu", "num_threads": 1, "logging_steps": 1, "save_steps": 3,
        "backbone": {"name": "test_resnet"}, "image_size": 32, "num_evals": 2,
        "data": {"train": {"path": str(data), "split": "train"}, "test": {"path": str(data), "split": "test"},
                 "val_fraction": 0.25},
        "optim": {"batch_size": 8, "steps": 12, "lr": 3e-3, "warmup_ratio": 0.1},
    }  # fmt: skip
    if kind == "segment":
        run |= {"decoder_channels": 16}
    if kind == "detect":
        run |= {
            "image_size": 96,
            "decoder_channels": 16,
            "num_proposals": 40,
            "anchor_scale": 4,
            "tile_size": 96,
            "tile_overlap": 32,
        }
    return {**run, **changes}


def finetune_in(folder: Path, **run: Any) -> None:
    """Write a run file and run it."""
    train(load_run(write_run(folder / "run.yaml", run)))

"""Folders that `timm.create_model("local-dir:FOLDER", pretrained=True)` and transformers' TimmWrapper load."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lhrs.files import write_file


def write_timm_folder(
    folder: Path,
    state: dict[str, Tensor],
    architecture: str,
    model_args: dict[str, Any],
    size: int,
    mean: list[float],
    std: list[float],
) -> None:
    """Write `model.safetensors` (float32) and `config.json`.

    Args:
        folder: made if it is not there.
        state: the model's tensors without a head.
        architecture: timm's name.
        model_args: arguments of `timm.create_model` besides.
        size: side in pixels of the images it was trained on.
        mean: per band, of numbers in [0, 1].
        std: per band.
    """
    cfg: dict[str, Any] = {"input_size": [len(mean), size, size], "num_classes": 0, "interpolation": "bicubic"}
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": model_args,
        "pretrained_cfg": {**cfg, "mean": mean, "std": std},
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().to(torch.float32 if value.is_floating_point() else value.dtype).contiguous()
               for name, value in state.items()}  # fmt: skip
    part = folder / ".model.safetensors.part"
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(folder / "model.safetensors")
    write_file(folder / "config.json", json.dumps(config, indent=2) + "\n")

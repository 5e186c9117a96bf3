"""Folders that `timm.create_model("local-dir:FOLDER", pretrained=True)` and transformers' TimmWrapper load.

The encoder of a multimodal model can be read in the same way.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from lhrs.atomic_io import save_safetensors, write_atomic
from lhrs.errors import CheckpointError
from lhrs.models.state_dict import read_safetensors

_TOWER = "model.vision_tower.timm_model."


def write_timm_folder(
    folder: Path,
    state: dict[str, Tensor],
    architecture: str,
    model_args: dict[str, Any],
    size: int,
    mean: list[float],
    std: list[float],
    normalization: dict[str, Any] | None = None,
    interpolation: str = "bicubic",
) -> None:
    """Write `model.safetensors` (float32) and `config.json`.

    Args:
        folder: made if it is not there.
        state: the model's tensors without a head.
        architecture: timm's name.
        model_args: arguments of `timm.create_model` besides.
        size: side in pixels of the images it was trained on.
        mean: per band, of values in [0, 1].
        std: per band.
        normalization: a dumped `lhrs.imagery.normalization.Normalization`; None is that of 8-bit RGB images.
        interpolation: by which images are resized.
    """
    cfg: dict[str, Any] = {"input_size": [len(mean), size, size], "num_classes": 0, "interpolation": interpolation}
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": model_args,
        "pretrained_cfg": {**cfg, "mean": mean, "std": std},
        **({"normalization": normalization} if normalization else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    save_safetensors(folder / "model.safetensors", tensors)
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")


def read_timm_folder(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the `config.json` of what `write_timm_folder` wrote.

    Of a folder with a multimodal LHRS model, whose encoder is timm's, return the encoder as if it had been written so,
    and its `levels`: the tensors are those of the layers up to the deepest, see `lhrs.models.encoder.prune_timm`.

    Raises:
        CheckpointError: the folder holds neither, or is broken.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        prefix = ""
        if config.get("model_type") == "lhrs":
            config, prefix = _encoder_of(folder, config), _TOWER
        config["architecture"]
        tensors = read_safetensors(folder / "model.safetensors", lambda name: name.startswith(prefix))
        state = {name.removeprefix(prefix): value for name, value in tensors.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CheckpointError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} is no backbone (config.json, model.safetensors): {reason}") from None
    return state, config


def _encoder_of(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    vision = config["vision_config"]
    if vision.get("model_type") != "timm_wrapper":
        raise ValueError(f"its encoder is a {vision.get('model_type')}, not one of timm")
    images = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))["image_processor"]
    size = [len(images["image_mean"]), images["size"]["height"], images["size"]["width"]]
    how = "bilinear" if images.get("resample") == Image.Resampling.BILINEAR else "bicubic"
    cfg = {"input_size": size, "interpolation": how, "mean": images["image_mean"], "std": images["image_std"]}
    args, levels = vision.get("model_args") or {}, config["levels"]
    return {"architecture": vision["architecture"], "model_args": args, "pretrained_cfg": cfg, "levels": levels}

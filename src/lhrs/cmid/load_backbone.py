"""Loading of backbones for feature extraction."""

import json
from pathlib import Path

import timm
import torch
from pydantic import ValidationError

from lhrs.cmid.probes import FeatureExtractor
from lhrs.config import validation_message
from lhrs.errors import CheckpointError, ConfigError
from lhrs.imagery.normalization import Normalization
from lhrs.models.encoder import prune_timm
from lhrs.models.presets import NANO, nano_folder
from lhrs.models.state_dict import load_strict
from lhrs.models.timm_io import read_timm_folder


def load_backbone(source: str, size: int | None = None, device: str = "cpu", random: bool = False) -> FeatureExtractor:
    """Return a backbone as a feature extractor.

    Args:
        source: a folder that timm loads; a folder of a multimodal model with a timm encoder; `lhrs-nano`, the embedded
            model; or the name of a timm model.
        size: side in pixels to which images are resized; None is the size of its training images.
        device: torch device.
        random: random weights instead of timm's pretrained weights; only for timm names.

    Raises:
        CheckpointError: the folder contains no backbone, or its weights cannot be loaded.
        ConfigError: timm has no such model.
    """
    folder = nano_folder() if source == NANO else Path(source)
    if not folder.is_dir() and not timm.is_model(source) and not source.startswith("hf-hub:"):
        raise ConfigError(f"{source} is neither a folder nor a model of timm.")
    if folder.is_dir() and not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} contains no backbone: there is no config.json in it.")
    try:
        if folder.is_dir():
            config = json.loads((folder / "config.json").read_text())
            if config.get("model_type") == "lhrs":
                state, config = read_timm_folder(folder)
                model = timm.create_model(config["architecture"], num_classes=0, **config["model_args"])
                prune_timm(model, config["levels"])
                load_strict(model, state, str(folder))
            else:
                model = timm.create_model(f"local-dir:{folder}", pretrained=True)
            cfg, saved = config.get("pretrained_cfg", {}), config.get("normalization")
        else:
            torch.manual_seed(0)
            model = timm.create_model(source, pretrained=not random, num_classes=0)
            cfg, saved = model.pretrained_cfg, None
    except Exception as error:  # timm, safetensors and huggingface_hub raise many types
        raise CheckpointError(f"{source} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    rgb = {"max_value": 255, "mean": cfg.get("mean", [0.5] * 3), "std": cfg.get("std", [0.5] * 3), "dtype": "uint8"}
    try:
        normalization = Normalization.model_validate(saved or rgb)
    except ValidationError as error:
        raise CheckpointError(
            f"{source} has no usable normalization: {validation_message(error, Normalization, saved or rgb)}"
        ) from None
    return FeatureExtractor(
        model.eval().to(device), normalization, size or cfg.get("input_size", [3, 224, 224])[-1], device
    )

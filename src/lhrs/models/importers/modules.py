"""Convert single modules to folders for the `model` section of run files: a timm encoder, a GGUF language model."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from lhrs.atomic_io import atomic_dir
from lhrs.errors import CheckpointError, ConfigError, MissingExtraError
from lhrs.models.importers.backbone_checkpoint import load_backbone_checkpoint, read_tensors
from lhrs.models.load import first_words
from lhrs.models.state_dict import load_strict
from lhrs.models.timm_io import write_timm_folder


def convert_timm(weights: Path, architecture: str, out: Path, by_order: bool = False) -> list[str]:
    """Write the weights of a timm model, without its classifier, as a folder that `model.encoder` takes.

    Args:
        weights: `.pth`, `.pt` or `.safetensors`.
        architecture: name in timm. Input size, mean and standard deviation are those of timm for it.
        out: folder to write; must not exist.
        by_order: the file names its tensors differently, but has them in timm's order.

    Returns:
        A report, line by line.

    Raises:
        CheckpointError: `out` exists, or the weights are broken or of another architecture.
        ConfigError: timm has no such architecture.
    """
    if not timm.is_model(architecture):
        raise ConfigError(f"timm has no model {architecture!r}")
    if out.exists():
        raise CheckpointError(f"{out} exists; choose another folder, or remove it")
    model = timm.create_model(architecture, num_classes=0)
    if by_order:
        state = _in_order(weights, architecture)
        load_strict(model, {name: state[name] for name in model.state_dict()}, str(weights))
    else:
        try:
            load_backbone_checkpoint(model, weights)
        except CheckpointError as error:
            raise CheckpointError(f"{error}{_hint(weights, architecture)}") from None
    cfg, info = cast(Any, model).pretrained_cfg, cast(Any, model).feature_info
    mean, std = list(cfg["mean"]), list(cfg["std"])
    with atomic_dir(out) as part:
        write_timm_folder(
            part, model.state_dict(), architecture, {}, cfg["input_size"][-1], mean, std,
            interpolation=cfg["interpolation"],
        )  # fmt: skip
    channels = [level["num_chs"] for level in info]
    return [
        f"{architecture}: {sum(p.numel() for p in model.parameters()):,} parameters",
        f"images of {cfg['input_size'][-1]} pixels, mean {mean}, standard deviation {std}, {cfg['interpolation']}",
        "levels: " + ", ".join(f"{n} ({width} channels)" for n, width in enumerate(channels)),
    ]


def _hint(weights: Path, architecture: str) -> str:
    try:
        _in_order(weights, architecture)
    except CheckpointError:
        return ""
    return " But its tensors have the shapes of timm's, in the same order: --by-order takes them by position."


def _in_order(weights: Path, architecture: str) -> dict[str, Tensor]:
    """Return the tensors of a file by timm's names for the same positions."""
    expected, tensors = timm.create_model(architecture).state_dict(), read_tensors(weights)
    if len(expected) != len(tensors):
        raise CheckpointError(f"{weights} has {len(tensors)} tensors, {architecture} has {len(expected)}.")
    for (name, wanted), (own, value) in zip(expected.items(), tensors.items(), strict=True):
        if wanted.shape != value.shape:
            shapes = f"{tuple(value.shape)}, timm's {name} has {tuple(wanted.shape)}"
            raise CheckpointError(f"{weights} does not have {architecture}'s order: {own} has shape {shapes}.")
    return dict(zip(expected, tensors.values(), strict=True))


def convert_gguf(weights: Path, out: Path, dtype: torch.dtype) -> list[str]:
    """Write the language model and tokenizer of a GGUF file as a folder that `model.language_model` takes.

    Quantized weights are multiplied out.

    Args:
        weights: `.gguf`, of an architecture that transformers reads.
        out: folder to write; must not exist.
        dtype: of the written weights.

    Returns:
        A report, line by line.

    Raises:
        CheckpointError: `out` exists, or transformers cannot read the file.
        MissingExtraError: the library for GGUF is not installed.
    """
    if find_spec("gguf") is None:
        raise MissingExtraError("reading GGUF needs gguf: pip install 'lhrs[gguf]'")
    if out.exists():
        raise CheckpointError(f"{out} exists; choose another folder, or remove it")
    if not weights.is_file():
        raise CheckpointError(f"{weights} does not exist")
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
        model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=dtype)
    except Exception as error:  # transformers reads damaged files as they come, and raises many types
        raise CheckpointError(f"{weights} does not load as a language model: {first_words(error)}") from error
    cast(Any, model).hf_quantizer = None  # the weights are plain now, but transformers would refuse to save them
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with atomic_dir(out) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    count = sum(p.numel() for p in model.parameters())
    return [f"{model.config.model_type}: {count:,} parameters, {len(tokenizer):,} tokens"]

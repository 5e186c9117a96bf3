"""Load a folder with a whole LHRS model."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from lhrs.errors import CheckpointError
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import prepare_quantized, quantization
from lhrs.models.processing import LHRSProcessor, load_image_processor
from lhrs.models.state_dict import read_safetensors

ADAPTER = "adapter"
"""Folder of a PEFT adapter inside a model folder."""
_BESIDE = ("ood.npz", "perception.json")
LOADING_ERRORS = (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError)
"""Exceptions of transformers, peft and safetensors for a folder that they cannot load."""


def load_model(
    source: str | Path,
    dtype: torch.dtype | str = "auto",
    quantize: str | None = None,
    revision: str | None = None,
) -> tuple[LHRSForConditionalGeneration, LHRSProcessor]:
    """Load a model without its adapter, see `merge_adapter`.

    Args:
        source: folder or hub id.
        dtype: of the weights; "auto" is that of the file.
        quantize: "8bit" or "4bit", for the language model.
        revision: branch, tag or commit of a hub id.

    Raises:
        CheckpointError: it does not load as an LHRS model.
    """
    settings = quantization(quantize, dtype if isinstance(dtype, torch.dtype) else torch.float32)
    if settings:
        settings["quantization_config"].llm_int8_skip_modules = ["model.vision_tower", "model.bridge", "lm_head"]
    try:
        state = revision or "main"
        processor = LHRSProcessor.from_pretrained(str(source), revision=state)
        processor.image_processor = load_image_processor(str(source), revision=state)
        model: Any = LHRSForConditionalGeneration.from_pretrained(str(source), dtype=dtype, revision=state, **settings)
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{source} does not load as an LHRS model: {first_words(error)}") from error
    prepare_quantized(model)
    return model.eval(), processor


def copy_beside(source: Path, folder: Path) -> None:
    """Copy the files of a model folder besides weights and processor: thresholds, temperatures, the OOD detector."""
    for name in _BESIDE:
        if (source / name).is_file():
            shutil.copy(source / name, folder)


def merge_adapter(model: LHRSForConditionalGeneration, folder: Path) -> LHRSForConditionalGeneration:
    """Return a model with a PEFT adapter merged into its weights.

    Raises:
        CheckpointError: the adapter does not load, or does not fit.
    """
    from peft import PeftModel

    wrapped: Any = model
    try:
        return PeftModel.from_pretrained(wrapped, str(folder)).merge_and_unload()
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{folder} cannot be merged: {first_words(error)}") from error


def read_float32(
    model: LHRSForConditionalGeneration, folder: Path, modules: Collection[str], module_of: Callable[[str], str]
) -> None:
    """Read modules again in float32, if the model was loaded in a lower precision than the file has.

    Args:
        model: to be changed.
        folder: that it was loaded from.
        modules: their names.
        module_of: returns the module of a parameter.

    Raises:
        CheckpointError: a file is broken.
    """
    wanted = {name: p for name, p in model.named_parameters() if module_of(name) in modules}
    for path in sorted(folder.glob("*.safetensors")):
        for name, value in read_safetensors(path, wanted.__contains__).items():
            wanted[name].data = value.float().to(wanted[name].device)


def first_words(error: Exception) -> str:
    """Return the beginning of a message, in one line."""
    return " ".join(str(error).split())[:300]

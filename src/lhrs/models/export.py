"""Export of models: merge an adapter, change the precision, or write ONNX graphs for the torch-free path."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lhrs.atomic_io import atomic_dir, save_safetensors
from lhrs.errors import ConfigError, MissingExtraError
from lhrs.models.load import ADAPTER, copy_beside, load_model, merge_adapter
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import NANO, nano_folder
from lhrs.models.state_dict import read_safetensors

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_dtype(name: str) -> torch.dtype:
    """Return a torch dtype by name.

    Raises:
        ConfigError: weights are not stored in it.
    """
    if name not in _DTYPES:
        raise ConfigError(f"--dtype must be one of {', '.join(_DTYPES)}, not {name!r}")
    return _DTYPES[name]


def export(
    source: str,
    out: Path,
    adapter: Path | None,
    dtype: torch.dtype | None,
    onnx: bool = False,
    int8: bool = False,
) -> list[str]:
    """Write a model folder.

    Args:
        source: folder or hub id of an LHRS model, or "lhrs-nano".
        out: folder to write; must not exist.
        adapter: PEFT folder to merge; None merges `adapter/` in `source`, where `lhrs convert --keep-lora` puts it, if
            it is there.
        dtype: of the written weights; None keeps the dtype. With `onnx`, float16 stores matrices and kernels in half
            precision; both paths compute in float32 with the stored values.
        onnx: write ONNX graphs too.
        int8: write only ONNX graphs, the language model in 8 bits.

    Returns:
        A report, line by line.

    Raises:
        CheckpointError: `source` or the adapter does not load, or they do not fit.
        ConfigError: `out` exists, or the torch-free path cannot run the model.
        MissingExtraError: a library for ONNX graphs is not installed.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; choose another folder, or remove it")
    source = str(nano_folder()) if source == NANO else source
    if adapter is None and (beside := Path(source) / ADAPTER).is_dir():
        adapter = beside
    onnx = onnx or int8
    if onnx and dtype not in (None, torch.float32, *(() if int8 else (torch.float16,))):
        choices = "leave --dtype away" if int8 else "leave --dtype away, or store them with --dtype float16"
        raise ConfigError(f"ONNX graphs compute in float32: {choices}")
    if onnx and (missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]):
        raise MissingExtraError(f"ONNX graphs need {' and '.join(missing)}: pip install 'lhrs[train]'")
    model, processor = load_model(source, torch.float32 if onnx else dtype or "auto")
    done = []
    if adapter is not None:
        model = merge_adapter(model, adapter)
        done.append(f"merged {adapter}")
    if onnx and dtype == torch.float16:
        _round_matrices(model)
    elif dtype is not None:
        cast(nn.Module, model).to(dtype)
    for config in (model.config.vision_config, model.config.text_config):
        config._name_or_path = ""  # where the part was on the machine that trained the model
    with atomic_dir(out) as part:
        if int8:
            model.config.save_pretrained(part)
            cast(Any, model.generation_config).save_pretrained(part)
        else:
            model.save_pretrained(part)
        if onnx and dtype == torch.float16:
            _store_half(part / "model.safetensors")
        processor.save_pretrained(part)
        copy_beside(Path(source), part)
        if onnx:
            from lhrs.models.export_onnx import export_onnx

            export_onnx(model, part, int8)
            done.append(f"ONNX graphs{', the language model in 8 bits' if int8 else ''}")
    count = sum(p.numel() for p in model.parameters())
    return [*done, f"{count:,} parameters in {str(dtype or model.dtype).removeprefix('torch.')}"]


def _round_matrices(model: LHRSForConditionalGeneration) -> None:
    """Round matrices and kernels to half precision; the model computes in float32 as before."""
    with torch.no_grad():
        for parameter in cast(nn.Module, model).parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half())


def _store_half(weights: Path) -> None:
    """Rewrite a file of rounded weights in half precision; vectors stay in float32."""
    state = read_safetensors(weights)
    save_safetensors(weights, {n: v.half() if v.is_floating_point() and v.ndim > 1 else v for n, v in state.items()})

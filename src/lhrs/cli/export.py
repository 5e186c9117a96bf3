"""`lhrs export`: a model with its adapter merged, in another precision, or as ONNX."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="Folder or hub id of an LHRS model.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must not exist.")],
    adapter: Annotated[Path | None, typer.Option(help="PEFT folder to merge; MODEL/adapter by default.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; by default the model's own.")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX graphs too, for the torch-free path.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Only ONNX graphs, the language model in 8 bits.")] = False,
) -> None:
    """Write a model with its LoRA merged, in another precision, or as ONNX for the torch-free path."""
    from lhrs.inference.chat import write_single_prompts
    from lhrs.models.export import export as export_model
    from lhrs.models.export import torch_dtype

    precision = None if dtype is None else torch_dtype(dtype)
    for line in export_model(model, out, adapter, precision, onnx, int8):
        print(line)
    if onnx or int8:
        write_single_prompts(out)
    print(f"written to {out}")

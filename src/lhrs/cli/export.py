"""`lhrs export`: a model with its adapter merged, in another precision, or as ONNX."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="Folder or hub id of an LHRS model.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    merge: Annotated[Path | None, typer.Option("--merge", help="PEFT folder; MODEL/adapter by default.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; as it is by default.")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX graphs too, for models like lhrs-nano.")] = False,
) -> None:
    """Write a model anew: its LoRA merged, in another precision, or as ONNX for the torch-free path."""
    from lhrs.models.export import export as carry_out
    from lhrs.models.export import torch_dtype

    write_onnx = None
    if onnx:
        from lhrs.nano.export_onnx import export_onnx as write_onnx
    for line in carry_out(model, out, merge, None if dtype is None else torch_dtype(dtype), write_onnx):
        print(line)
    print(f"written to {out}")

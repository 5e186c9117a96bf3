"""`lhrs convert`: published checkpoints, and modules of one's own, to folders that load like any other."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    checkpoint: Annotated[str, typer.Argument(help="FINAL.pt, a CMID file, their folder, a hub id, or a module.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; must not exist.")],
    llm: Annotated[str | None, typer.Option("--llm", help="Base language model: hub id or folder.")] = None,
    teacher: Annotated[bool, typer.Option("--teacher", help="Use the teacher of a full CMID run.")] = False,
    keep_lora: Annotated[bool, typer.Option("--keep-lora", help="Write the LoRA next to the model for PEFT.")] = False,
    merge_linear_experts: Annotated[
        bool, typer.Option("--merge-linear-experts", help="Merge each of Nova's linear experts into one matrix.")
    ] = False,
    expect: Annotated[str | None, typer.Option(help="Fail unless it is lhrs-bot, lhrs-bot-nova or cmid.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
    architecture: Annotated[str | None, typer.Option("--timm", help="timm's name of an encoder's weights.")] = None,
    by_order: Annotated[
        bool, typer.Option("--by-order", help="The encoder's tensors have other names than timm's, in its order.")
    ] = False,
) -> None:
    """Convert LHRS-Bot, LHRS-Bot-Nova (LHRS/LHRS-Bot-Nova) or CMID weights; the kind is detected.

    With --timm, write an encoder for run files; from a .gguf file, a language model.
    """
    from lhrs.errors import ConfigError
    from lhrs.models.export import torch_dtype
    from lhrs.models.importers.convert import convert as convert_checkpoint

    if architecture is not None or checkpoint.endswith(".gguf"):
        from lhrs.models.importers.modules import convert_gguf, convert_timm

        path = Path(checkpoint)
        lines = (
            convert_gguf(path, out, torch_dtype(dtype))
            if architecture is None
            else convert_timm(path, architecture, out, by_order)
        )
        print("\n".join([*lines, f"written to {out}"]))
        return
    systems = ("lhrs-bot", "lhrs-bot-nova", "cmid")
    if expect is not None and expect not in systems:
        raise ConfigError(f"--expect must be one of {', '.join(systems)}, not {expect!r}")
    done = convert_checkpoint(
        checkpoint, out, llm, teacher, keep_lora, merge_linear_experts, expect, torch_dtype(dtype)
    )
    print(f"{done.system}, stage {done.stage}" if done.system != "cmid" else f"CMID backbone ({done.stage})")
    for line in done.found:
        print(f"  {line}")
    for name, why in done.dropped.items():
        print(f"  left out: {name} ({why})")
    print(f"written to {out}")

"""`lhrs convert`: published checkpoints to folders that load like any other."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    checkpoint: Annotated[str, typer.Argument(help="FINAL.pt, a CMID file, their folder, or a hub id.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    llm: Annotated[str | None, typer.Option("--llm", help="Base language model: hub id or folder.")] = None,
    teacher: Annotated[bool, typer.Option("--teacher", help="Take the teacher of a full CMID run.")] = False,
    keep_lora: Annotated[bool, typer.Option("--keep-lora", help="Write the LoRA beside the model for PEFT.")] = False,
    collapse: Annotated[bool, typer.Option("--collapse", help="Multiply Nova's linear experts out.")] = False,
    system: Annotated[str | None, typer.Option(help="Fail unless it is lhrs-bot, lhrs-bot-nova or cmid.")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Convert LHRS-Bot, LHRS-Bot-Nova (LHRS/LHRS-Bot-Nova) or CMID weights; the system is recognised."""
    from lhrs.errors import ConfigError
    from lhrs.models.export import torch_dtype
    from lhrs.models.importers.convert import convert as carry_out

    systems = ("lhrs-bot", "lhrs-bot-nova", "cmid")
    if system is not None and system not in systems:
        raise ConfigError(f"--system must be one of {', '.join(systems)}, not {system!r}")
    done = carry_out(checkpoint, out, llm, teacher, keep_lora, collapse, system, torch_dtype(dtype))
    print(f"{done.system}, stage {done.stage}" if done.system != "cmid" else f"CMID backbone ({done.stage})")
    for line in done.found:
        print(f"  {line}")
    for name, why in done.dropped.items():
        print(f"  left out: {name} ({why})")
    print(f"written to {out}")

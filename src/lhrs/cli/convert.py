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
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Convert LHRS-Bot, LHRS-Bot-Nova (LHRS/LHRS-Bot-Nova) or CMID weights; the system is recognised."""
    import torch

    from lhrs.errors import ConfigError
    from lhrs.models.importers.convert import convert as carry_out

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise ConfigError(f"--dtype must be one of {', '.join(known)}, not {dtype!r}")
    done = carry_out(checkpoint, out, llm, teacher, keep_lora, known[dtype])
    print(f"{done.system}, stage {done.stage}" if done.system != "cmid" else f"CMID backbone ({done.stage})")
    for line in done.found:
        print(f"  {line}")
    for name, why in done.dropped.items():
        print(f"  left out: {name} ({why})")
    print(f"written to {out}")

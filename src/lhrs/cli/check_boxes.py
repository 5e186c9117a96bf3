"""`lhrs check-boxes`: how a model writes boxes, by drawn squares."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lhrs.cli.console import print_info
from lhrs.cli.options import AsJson, Device, with_model_options
from lhrs.errors import ConfigError
from lhrs.progress import progress_bar

if TYPE_CHECKING:
    from lhrs.evaluation.box_check import BoxCheck
    from lhrs.inference.options import ModelOptions

_MAX_NEW_TOKENS = 256
_CANNOT_TELL = 1
"""Exit code if nothing is certain."""


@with_model_options
def check_boxes(
    model: Annotated[str, typer.Argument(help="Folder, hub id or URL of a server.", metavar="MODEL")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Family file (.yaml), if one is needed.")] = None,
    images: Annotated[int, typer.Option(min=8, help="Drawings, one question each for every prompt.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawings.")] = 0,
    device: Device = None,
    as_json: AsJson = False,
    *,
    model_options: "ModelOptions",
) -> None:
    """Find out in which order and unit a model writes boxes, and how accurate they are."""
    from lhrs.evaluation.box_check import check_boxes as check
    from lhrs.inference.family_file import SUFFIXES, save_family
    from lhrs.inference.load import load

    if out is not None and out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: the name of a family file ends in .yaml.")
    if out is not None and not out.resolve().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}.")
    limit = model_options.max_new_tokens or _MAX_NEW_TOKENS
    result = check(load(model, device, model_options), images, seed, limit, progress_bar)
    config = result.family_file()
    print(json.dumps(_record(result)) if as_json else _table(result))
    if result.outcome == "cannot tell":
        print_info(f"warning: {result.message}")
        raise typer.Exit(_CANNOT_TELL)
    print_info(result.message)
    if config is not None and out is not None:
        save_family(config, out)
        print_info(f"{out}: use it with --family {out}")
    elif config is not None:
        print_info("write the family file with --out FILE.yaml")


def _table(result: "BoxCheck") -> str:
    lines = [f"{'prompt':14}  {'boxes':>6}  {'IoU':>5}  {'IoU>=0.5':>8}  reading"]
    for each in result.findings:
        answered = f"{each.num_answers}/{result.num_drawings}"
        lines.append(
            f"{each.prompt_name:14}  {answered:>6}  {each.mean_iou:5.2f}  {each.accuracy:8.2f}  {each.reading}"
        )
    return "\n".join(lines)


def _record(result: "BoxCheck") -> dict[str, object]:
    config = result.family_file()
    return {
        "model": result.model, "family": result.family, "family_iou": result.family_iou, "outcome": result.outcome,
        "message": result.message,
        "family_file": None if config is None else config.model_dump(mode="json", exclude_none=True),
        "prompts": [
            {
                "name": each.prompt_name, "boxes": each.num_answers, "mean_iou": each.mean_iou,
                "accuracy": each.accuracy, "reading": each.reading, "certain": each.is_certain,
            }
            for each in result.findings
        ],
    }  # fmt: skip

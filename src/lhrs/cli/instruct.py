"""`lhrs instruct`: questions and answers about images (LHRS-Instruct, LHRS-Instruct-Plus)."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lhrs.cli.console import print_info
from lhrs.progress import progress_bar


class HeldOut(StrEnum):
    """Parts of the question bank that are kept from training."""

    WORDINGS = "wordings"
    NOUNS = "nouns"
    BOTH = "both"


app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Make questions and answers about images (LHRS-Instruct, LHRS-Instruct-Plus)."""


def _list_tasks(value: bool) -> None:
    if not value:
        return
    from lhrs.instruct.build import TASKS

    for name, task in TASKS.items():
        typer.echo(f"{name:14} {(task.__doc__ or '').strip().splitlines()[0]}")
    raise typer.Exit


@app.command()
def build(
    paths: Annotated[
        list[Path], typer.Argument(help="Alignment datasets, or data with boxes, masks, classes or questions.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .jsonl or .parquet file.")],
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="Only this task; may be repeated. See --list.")
    ] = None,
    max_per_image: Annotated[int, typer.Option(min=1, help="Maximum number of questions per image.")] = 4,
    multiple_choice_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of questions that become multiple choice.")
    ] = 0.25,
    conversation_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of images whose questions become one conversation.")
    ] = 0.3,
    open_world: Annotated[
        bool, typer.Option(help="Annotations may be incomplete: ask no questions about absent objects.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="Only this split of each.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    show_tasks: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_list_tasks, help="List the tasks.")
    ] = False,
) -> None:
    """Ask about what is annotated: facts of a map, boxes, masks, scene classes."""
    from lhrs.instruct.build import InstructionConfig, build_instructions, summary

    config = InstructionConfig(
        tasks=tuple(tasks or ()), max_per_image=max_per_image, multiple_choice_fraction=multiple_choice_fraction,
        conversation_fraction=conversation_fraction, seed=seed,
    )  # fmt: skip
    result = build_instructions(paths, out, config=config, open_world=open_world, split=split, progress=progress_bar)
    for line in summary(result.samples):
        typer.echo(line)
    print_info(f"{out}: {len(result.samples):,} samples about {result.num_images:,} images")
    if len(result.dropped):
        print_info(result.dropped.summary())


@app.command()
def queries(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new .jsonl or .parquet file.")],
    num: Annotated[int, typer.Option(min=1, help="Number of conversations.")] = 100_000,
    held_out: Annotated[
        HeldOut | None, typer.Option(help="For evaluation: use wordings or nouns that training data never have.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
) -> None:
    """Write questions with the queries that they ask, for the language model of a perception model."""
    from lhrs.instruct.queries import write_queries
    from lhrs.instruct.question_bank import Split

    templates: Split = "held_out" if held_out in (HeldOut.WORDINGS, HeldOut.BOTH) else "train"
    nouns: Split = "held_out" if held_out in (HeldOut.NOUNS, HeldOut.BOTH) else "train"
    counts = write_queries(out, num, seed=seed, templates=templates, nouns=nouns)
    for task, count in counts.most_common():
        typer.echo(f"{count:>9,}  {task}")
    print_info(f"{out}: {num:,} conversations")

"""`lhrs instruct`: questions and answers about images (LHRS-Instruct, LHRS-Instruct-Plus)."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lhrs.cli.terminal import note, progress

if TYPE_CHECKING:
    from lhrs.instruct.known import Known

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Make questions and answers about images (LHRS-Instruct, LHRS-Instruct-Plus)."""


@app.command()
def build(
    paths: list[Path] = typer.Argument(help="Alignment data sets, or data with boxes, masks, classes or questions."),
    out: Path = typer.Option(..., "--out", "-o", help="A new .jsonl or .parquet file."),
    tasks: list[str] = typer.Option([], "--task", help="Only this task; may be repeated. See --list."),
    per_image: int = typer.Option(4, min=1, help="Questions per image at most."),
    choices: float = typer.Option(0.25, min=0, max=1, help="Share that becomes multiple choice."),
    conversations: float = typer.Option(0.3, min=0, max=1, help="Share of images whose questions become one talk."),
    open_world: bool = typer.Option(False, help="Boxes may be missing: ask nothing about what is not there."),
    split: str | None = typer.Option(None, help="Only this split of each."),
    seed: int = typer.Option(0, help="Of all draws."),
    show_tasks: bool = typer.Option(False, "--list", is_eager=True, callback=lambda value: _list(value)),
) -> None:
    """Ask about what is known: facts of a map, boxes, masks, scene classes."""
    from lhrs.data.samples import write_samples
    from lhrs.errors import ConfigError
    from lhrs.instruct.build import make_samples, summary
    from lhrs.instruct.known import Vocabulary

    if out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--out {out} is neither .jsonl nor .parquet.")
    if out.exists():
        raise ConfigError(f"{out} exists already; name another file, or remove it.")
    images = [known for path in paths for known in _known(path, split, open_world)]
    labels = tuple(sorted({thing.label for known in images for thing in known.things}))
    words = Vocabulary(labels)
    samples = list(make_samples(images, words, tasks, per_image, choices, conversations, seed))
    if not samples:
        raise ConfigError(f"nothing of {', '.join(map(str, paths))} can be asked about with these tasks.")
    write_samples(samples, out)
    for line in summary(samples):
        typer.echo(line)
    note(f"{out}: {len(samples):,} samples about {len(images):,} images")


def _list(value: bool) -> None:
    if not value:
        return
    from lhrs.instruct.build import TASKS

    for name, maker in TASKS.items():
        typer.echo(f"{name:14} {(maker.__doc__ or '').strip().splitlines()[0]}")
    raise typer.Exit


def _known(path: Path, split: str | None, open_world: bool) -> "list[Known]":
    from dataclasses import replace

    from lhrs.align.records import INDEX, MANIFEST, facts_of, read_index
    from lhrs.data.dataset import guess_reader, open_dataset
    from lhrs.errors import DataError
    from lhrs.imagery.stack import image_shape
    from lhrs.instruct.known import from_row, from_sample

    if (path / INDEX).exists() and (path / MANIFEST).exists():
        if split is not None:
            raise DataError(f"{path} has no splits.")
        rows = read_index(path).to_pylist()
        return [
            from_row(row, facts_of(row["facts"]), str(path.absolute() / row["image"]) if row["image"] else None)
            for row in rows
        ]
    dataset = open_dataset(path, split=split)
    labels: set[str] = set()
    scenes: set[str] = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        labels.update(box.label for box in sample.boxes)
        scenes.update(sample.labels)
    are_parts = guess_reader(path) == "masks"
    found: dict[tuple[str, ...], Known] = {}
    with progress("reading", len(dataset)) as advance:
        for index in range(len(dataset)):
            sample = dataset[index]
            height, width = image_shape(Path(sample.images[0])) if sample.images else (1, 1)
            known = from_sample(sample, width, height, sorted(labels), sorted(scenes))
            if open_world or are_parts:
                known = replace(known, complete=frozenset(), are_parts=are_parts)
            place = known.images or (known.id,)
            found[place] = found[place].joined(known) if place in found else known
            advance()
    return list(found.values())

"""`lhrs data`: list and download training sets; inspect, check, draw and export data."""

import inspect
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lhrs.cli.console import print_info
from lhrs.progress import progress_bar

if TYPE_CHECKING:
    from lhrs.data.dataset import Dataset
    from lhrs.data.lint import Finding
    from lhrs.data.training_sets import TrainingSet
    from lhrs.dropped import Dropped
    from lhrs.schema import Sample

app = typer.Typer(
    help="List and download training sets; inspect, check, draw and export data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Format = Annotated[str | None, typer.Option(help="Format of the data; by default the only one that matches.")]
Split = Annotated[str | None, typer.Option(help="Only this split.")]
SkipBad = Annotated[int, typer.Option(min=0, metavar="N", help="Leave out up to N broken samples and count them.")]
_NUM_SHOWN = 3
_NUM_COUNTED = 50
_NUM_PER_CODE = 10


@app.command()
def show(
    name_or_path: Annotated[str, typer.Argument(help="Data to read, or the name of a format for its data sheet.")],
    format: Format = None,
    split: Split = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first N samples.")] = None,
    skip_bad: SkipBad = 0,
) -> None:
    """Count samples by split, task, class, license and box, and print the first ones and what was left out."""
    from lhrs import registry
    from lhrs.data.dataset import READERS, get_reader
    from lhrs.data.good_samples import open_samples

    if not Path(name_or_path).exists() and format is None and name_or_path in registry.list_components(READERS):
        for line in _data_sheet(name_or_path, get_reader(name_or_path)):
            typer.echo(line)
        return
    dataset = open_samples(name_or_path, format, split, skip_bad)
    num_samples = min(len(dataset), limit or len(dataset))
    counts = _Summary()
    with progress_bar("reading", num_samples) as bar:
        for index in range(num_samples):
            counts.add(dataset[index])
            bar.update()
    for line in counts.lines():
        typer.echo(line)
    for sample in dataset[: min(num_samples, _NUM_SHOWN)]:
        typer.echo("")
        for line in _describe(sample):
            typer.echo(line)
    if len(dataset.dropped):
        typer.echo(f"\n{dataset.dropped.summary()}")


@app.command("list")
def list_command(
    stage: Annotated[str | None, typer.Option(help="Only the sets of a recipe: lhrs-bot-2-instruct.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one set per line as JSON.")] = False,
) -> None:
    """List the training sets that `lhrs data get` downloads: stages, license, size, place, checksum, citation."""
    from lhrs.data.training_sets import list_sets
    from lhrs.errors import ConfigError

    rows = [row for row in list_sets() if stage is None or stage in row.stages]
    if not rows:
        known = sorted({name for row in list_sets() for name in row.stages})
        raise ConfigError(f"no training set is for {stage!r}; stages are {', '.join(known)}.")
    for row in rows:
        if as_json:
            typer.echo(json.dumps({**row.model_dump(exclude_none=True), "downloaded": row.is_downloaded}))
            continue
        for line in _set_lines(row):
            typer.echo(line)


@app.command("get")
def get_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Sets of `lhrs data list`.")],
    user_paths: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A file or folder that you got by a manual step of the set; may be repeated."),
    ] = None,
) -> None:
    """Download training sets to LHRS_DATA or the cache folder, verify and unpack them, and print their paths.

    A stopped download continues when the command is repeated.
    """
    from lhrs.data.training_sets import get, get_set
    from lhrs.errors import ConfigError, DataError

    if user_paths and len(names) > 1:
        raise ConfigError("--from is for one set at a time.")
    for row in map(get_set, names):
        size = "" if row.size_gb is None else f"; {row.size_gb:,.1f} GB"
        print_info(f"{row.name}: to {row.path}{size}; {row.license}")
    failed: list[DataError] = []
    for name in names:
        try:
            typer.echo(get(name, user_paths or (), progress_bar))
        except DataError as error:
            failed.append(error)
            if len(names) > 1:
                print_info(f"{name}: {error}")
    if failed:
        raise failed[0] if len(names) == 1 else DataError(f"{len(failed)} of {len(names)} sets are not complete.")


@app.command()
def view(
    path: Annotated[Path, typer.Argument(help="Data to read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .html page, or a .png sheet.")],
    format: Format = None,
    split: Split = None,
    limit: Annotated[int, typer.Option(min=1, help="Samples, spread evenly over the data.")] = 30,
    columns: Annotated[int, typer.Option(min=1, help="Of a sheet.")] = 3,
    skip_bad: SkipBad = 0,
) -> None:
    """Draw samples: images with their boxes and texts."""
    from lhrs.atomic_io import atomic_write
    from lhrs.data.good_samples import open_samples
    from lhrs.data.visualize import contact_sheet, html_page
    from lhrs.errors import ConfigError

    if out.suffix not in (".html", ".png"):
        raise ConfigError(f"--out {out} is neither a .html page nor a .png sheet.")
    dataset = open_samples(path, format, split, skip_bad)
    num = min(limit, len(dataset))
    samples = [dataset[(2 * n + 1) * len(dataset) // (2 * num)] for n in range(num)]
    if out.suffix == ".html":
        html_page(samples, out, f"{path.name}: {num} of {len(dataset):,} samples")
    else:
        with atomic_write(out) as part:
            contact_sheet(samples, columns).save(part, format="PNG")
    _note_dropped(dataset)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="Data to read.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")],
    target: Annotated[
        str, typer.Option("--for", help="webdataset, a format of boxes such as coco, or a trainer such as llava.")
    ] = "webdataset",
    format: Format = None,
    split: Split = None,
    per_shard: Annotated[int, typer.Option(min=1, help="Samples per tar file of webdataset.")] = 1000,
    skip_bad: SkipBad = 0,
) -> None:
    """Write samples in the format of another tool: webdataset, boxes (coco, yolo ...), or conversations (llava ...).

    webdataset is tar files of NAME.png or .jpg, NAME.txt (the last answer) and NAME.json (all). An unknown format lists
    all of them. What a format lacks is counted at the end.
    """
    from lhrs.data.export import export_dataset, export_names
    from lhrs.data.good_samples import open_samples
    from lhrs.data.shards import write_shards
    from lhrs.dropped import Dropped
    from lhrs.errors import ConfigError

    targets = ["webdataset", *export_names()]
    if target not in targets:
        raise ConfigError(f"--for {target} is none of {', '.join(targets)}.")
    dataset, dropped = open_samples(path, format, split, skip_bad), Dropped()
    if target == "webdataset":
        files = write_shards(dataset, out, per_shard, progress_bar)
        print_info(f"{out}: {len(dataset):,} samples in {len(files)} tar files")
    else:
        num_items = export_dataset(dataset, out, target, dropped, progress_bar)
        print_info(f"{out}: {num_items:,} items for {target}")
    _note_dropped(dataset, dropped)


@app.command()
def tile(
    path: Annotated[Path, typer.Argument(help="Images with boxes or polygons, such as a split of DOTA.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder in DOTA's layout.")],
    format: Format = None,
    split: Split = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels a side.")] = 1024,
    overlap: Annotated[int, typer.Option(min=0, help="Overlap of neighboring tiles in pixels.")] = 200,
    skip_bad: SkipBad = 0,
) -> None:
    """Cut large images into tiles for training a detector. A tile has the objects of which it shows 0.7."""
    from lhrs.data.good_samples import open_samples
    from lhrs.downstream.detect.tiling import write_tiles
    from lhrs.dropped import Dropped

    dataset = open_samples(path, format, split, skip_bad)
    dropped = Dropped()
    with progress_bar("cutting", len(dataset)) as bar:
        num_tiles = write_tiles(dataset, out, size, overlap, bar.update, dropped)
    print_info(f"{out}: {num_tiles:,} tiles of {len(dataset):,} images")
    _note_dropped(dataset, dropped)


@app.command("lint")
def check(
    path: Annotated[Path, typer.Argument(help="Data to read.")],
    format: Format = None,
    split: Split = None,
    images: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one finding per line as JSON.")] = False,
) -> None:
    """Find mistakes: boxes in another convention, broken images, empty answers, duplicates, leaks between splits.

    Exits with 1 if there are errors, with 0 if there are warnings or nothing.
    """
    from lhrs.data.dataset import open_dataset
    from lhrs.data.lint import lint

    dataset = open_dataset(path, format, split)
    with progress_bar("checking", len(dataset)) as bar:
        findings = lint(dataset, images, bar.update)
    for line in (finding.model_dump_json() for finding in findings) if as_json else _report(findings):
        typer.echo(line)
    num_errors = sum(finding.severity == "error" for finding in findings)
    typer.echo(f"samples: {len(dataset):,}, errors: {num_errors:,}, warnings: {len(findings) - num_errors:,}", err=True)
    _note_dropped(dataset)
    if num_errors:
        raise typer.Exit(1)


def _set_lines(row: "TrainingSet") -> Iterator[str]:
    """Yield the lines of a training set."""
    size = "size not known" if row.size_gb is None else f"{row.size_gb:,.1f} GB"
    yield f"{row.name}: {row.about}{' (downloaded)' if row.is_downloaded else ''}"
    yield f"  stages    {', '.join(row.stages)}"
    yield f"  license   {row.license}"
    yield f"  size      {size}"
    for part in row.parts:
        names = "" if part.files == ["*"] else f": {', '.join(part.files)}"
        yield f"  from      {part.where}{names}"
    for step in row.manual:
        yield f"  by hand   {step.steps}"
    yield f"  checksum  {row.checksums}"
    yield f"  cite      {row.citation}"
    yield f"  see       {row.homepage}"


def _note_dropped(dataset: "Dataset", further: "Dropped | None" = None) -> None:
    """Print what the dataset, and the command itself, left out."""
    dropped = dataset.dropped
    if further is not None:
        dropped.update(further)
    if len(dropped):
        print_info(dropped.summary())


def _data_sheet(name: str, reader: "type[Dataset]") -> Iterator[str]:
    """Yield the lines of a format's data sheet."""
    paragraphs = inspect.cleandoc(reader.__doc__ or "").split("\n\n")
    yield f"{name}: {' '.join(paragraphs[0].split())}"
    for paragraph in paragraphs[1:]:
        yield from paragraph.splitlines()
    yield f"layout   {reader.layout}"
    yield f"license  {reader.license}"
    if reader.download_hint:
        yield f"obtain   {reader.download_hint}"
    yield f"see      {reader.homepage}"


class _Summary:
    """Counts samples one by one."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {key: Counter() for key in ("split", "license", "task", "class", "box")}
        self._images: set[str] = set()
        self._num_samples = self._num_turns = self._num_with_boxes = 0

    def add(self, sample: "Sample") -> None:
        boxes = [*sample.boxes, *(box for turn in sample.turns for box in turn.boxes)]
        self._num_samples += 1
        self._num_turns += len(sample.turns)
        self._num_with_boxes += bool(boxes)
        self._images.update(sample.images)
        self._counts["split"][sample.split or "none"] += 1
        self._counts["license"][sample.license] += 1
        self._counts["task"].update([sample.task] if sample.task else [])
        self._counts["class"].update(sample.labels)
        self._counts["box"].update(box.label for box in boxes)

    def lines(self) -> Iterator[str]:
        mean_turns = self._num_turns / max(1, self._num_samples)
        yield f"samples    {self._num_samples:,} with {len(self._images):,} images; {mean_turns:.1f} turns on average"
        yield f"boxes      {self._counts['box'].total():,} in {self._num_with_boxes:,} samples"
        for what, counter in self._counts.items():
            for i, (value, count) in enumerate(counter.most_common(_NUM_COUNTED)):
                yield f"{what if not i else '':10} {count:>9,}  {value}"
            if len(counter) > _NUM_COUNTED:
                yield f"{'':20}  and {len(counter) - _NUM_COUNTED:,} more"


def _describe(sample: "Sample") -> Iterator[str]:
    yield sample.id
    yield from (f"  image: {image}" for image in sample.images)
    if sample.labels:
        yield f"  class: {', '.join(sample.labels)}"
    for box in sample.boxes[:_NUM_SHOWN]:
        marks = f"{' (oriented)' if box.corners else ''}{' (crowd)' if box.crowd else ''}"
        yield f"  box: {box.label} [{', '.join(f'{value:.1f}' for value in box.xyxy)}]{marks}"
    if len(sample.boxes) > _NUM_SHOWN:
        yield f"  and {len(sample.boxes) - _NUM_SHOWN} more boxes"
    yield from (f"  {turn.role}: {turn.text}" for turn in sample.turns)


def _report(findings: "Sequence[Finding]") -> Iterator[str]:
    """Yield a line per finding, what concerns everything first, and of each code the first few."""
    so_far: Counter[str] = Counter()
    for finding in sorted(findings, key=lambda finding: finding.sample is not None):
        so_far[finding.code] += 1
        if so_far[finding.code] <= _NUM_PER_CODE:
            subject = f"{finding.sample}: " if finding.sample else ""
            yield f"{finding.severity:8} {finding.code:22} {subject}{finding.message}"
    for code, count in so_far.items():
        if count > _NUM_PER_CODE:
            yield f"and {count - _NUM_PER_CODE:,} more {code}; --json prints all"

"""`lhrs eval`: evaluate a model on benchmarks."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lhrs.cli.console import print_info
from lhrs.cli.options import with_model_options

if TYPE_CHECKING:
    from lhrs.inference.options import ModelOptions


@with_model_options
def evaluate(
    benchmarks: list[str] = typer.Argument(
        None, help="NAME=PATH of the data, such as eurosat=data/EuroSAT; NAME alone downloads.", metavar="BENCH..."
    ),
    model: str = typer.Option("lhrs-nano", "--model", "-m", help="Folder, hub id or URL of a server."),
    out: Path = typer.Option(Path("results/eval"), "--out", "-o", help="Folder of answers and scores; resumes there."),
    protocol: str = typer.Option("free", help="free, constrained (to options), circular, shuffled-options."),
    limit: int | None = typer.Option(
        None, min=1, help="Maximum number of questions, evenly spread.", show_default=False
    ),
    baselines: bool = typer.Option(True, help="Also score blind and shuffled baselines."),
    batch_size: int = typer.Option(16, min=1, help="Batch size; does not change the answers."),
    compare_to: Path | None = typer.Option(
        None, help="Folder of another model's answers, for a paired test.", show_default=False
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, ...", show_default=False),
    engine: str = typer.Option("local", help="local, or ray: copies of the model on a cluster's workers."),
    workers: int = typer.Option(2, min=1, help="Copies, with the engine ray."),
    show_list: bool = typer.Option(False, "--list", help="List the benchmarks and how to get their data."),
    *,
    model_options: "ModelOptions",
) -> None:
    """Score a model on benchmarks, strictly, next to what is reached without the image."""
    from lhrs.evaluation.benchmark import benchmark_names, find_benchmark
    from lhrs.evaluation.evaluate import evaluate
    from lhrs.progress import progress_bar

    if show_list:
        for name in benchmark_names():
            benchmark = find_benchmark(name)
            hint = (
                benchmark.download_hint
                if benchmark.source is None
                else f"`lhrs eval {name}` downloads it; {benchmark.license}."
            )
            typer.echo(f"{name:18} {benchmark.metric:10} {hint}")
        return
    evaluation = evaluate(
        benchmarks or [], model=model, output_dir=out, protocol=protocol, limit=limit, baselines=baselines,
        batch_size=batch_size, compare_to=compare_to, device=device, options=model_options, engine=engine,
        num_workers=workers, progress=progress_bar, log=print_info,
    )  # fmt: skip
    typer.echo(evaluation.table(), nl=False)
    for line in evaluation.comparisons():
        typer.echo(line)
    print_info(f"{out}: answers, scores and pages of errors")

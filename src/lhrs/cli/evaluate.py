"""`lhrs eval`: ask a model what a benchmark asks, and score it."""

from pathlib import Path
from typing import Any

import typer

from lhrs.cli.terminal import note


def evaluate(
    benchmarks: list[str] = typer.Argument(
        None, help="NAME=PATH of the data, such as eurosat=data/EuroSAT; NAME alone downloads.", metavar="BENCH..."
    ),
    model: str = typer.Option("lhrs-nano", "--model", "-m", help="Folder, hub id or URL of a server."),
    out: Path = typer.Option(Path("results/eval"), "--out", "-o", help="Folder of answers and scores; gone on with."),
    protocol: str = typer.Option("free", help="free, constrained (to options), circular (all rotations), reordered."),
    limit: int | None = typer.Option(None, min=1, help="Only so many questions, spread evenly.", show_default=False),
    controls: bool = typer.Option(True, help="Ask without the image and with another's too."),
    batch_size: int = typer.Option(16, min=1, help="Questions at a time; does not change the answers."),
    against: Path | None = typer.Option(
        None, help="Folder of another model's answers, to compare with.", show_default=False
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, ...", show_default=False),
    engine: str = typer.Option("local", help="local, or ray: copies of the model on a cluster's workers."),
    workers: int = typer.Option(2, min=1, help="Copies, with the engine ray."),
    show_list: bool = typer.Option(False, "--list", help="Name the benchmarks and how to get them."),
) -> None:
    """Score a model on benchmarks, strictly, beside what is reached without looking."""
    from contextlib import ExitStack

    from lhrs.errors import ConfigError
    from lhrs.evaluation.asking import PROTOCOLS, VARIANTS, put
    from lhrs.evaluation.benchmark import benchmark_names, find_benchmark, open_benchmark
    from lhrs.evaluation.report import PAGE, compare, score_answers, table, told_of, write_errors, write_report
    from lhrs.evaluation.runner import answer_all
    from lhrs.inference.load import load, model_hash
    from lhrs.inference.runtimes.ray import ray_runtime

    if show_list:
        for name in benchmark_names():
            found = find_benchmark(name)
            how = found.obtain if found.source is None else f"`lhrs eval {name}` downloads it; {found.licence}."
            typer.echo(f"{name:18} {found.metric:10} {how}")
        return
    if protocol not in PROTOCOLS:
        raise ConfigError(f"--protocol is one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine is local or ray, not {engine!r}.")
    if not benchmarks:
        raise ConfigError(f"name a benchmark and its data, NAME=PATH; known: {', '.join(benchmark_names())}.")
    opened = [open_benchmark(given, note) for given in benchmarks]
    items, data = {}, {}
    for benchmark in opened:
        name, every = benchmark.title, benchmark.items()
        if name in items:
            raise ConfigError(f"{name} is given twice; score it in two runs with --out folders of their own.")
        items[name] = _spread(every, limit)
        data[name] = told_of(benchmark, items[name], len(items[name]) == len(every))
        if data[name]["pinned"] is False:
            got, wanted = data[name]["data_hash"], data[name]["expected_hash"]
            note(f"{name}: data hash {got}, not the pinned {wanted}: other questions or images than the official ones")
    with ExitStack() as stack:
        if engine == "ray":
            runtime = stack.enter_context(ray_runtime(model, workers, batch_size, device))
            at_once = 2 * workers * batch_size
        else:
            runtime, at_once = load(model, device).runtime, batch_size
        hashed = model_hash(model, runtime.name)
        results = []
        for benchmark in opened:
            title = benchmark.title
            asked = put(items[title], benchmark.metric, runtime.family, protocol)
            folder = out / _folder(title)
            rows: dict[str, list[dict[str, Any]]] = {}
            for variant in VARIANTS if controls else VARIANTS[:1]:
                with _counting(f"{title} {variant}", len(asked)) as done:
                    rows[variant] = answer_all(
                        runtime, hashed, asked, benchmark.metric, variant, folder / f"{variant}.jsonl", at_once, 0, done
                    )
            scores = score_answers(benchmark, asked, rows, protocol)
            results.append({"model_hash": hashed, **data[title], **scores})
            write_errors(benchmark, asked, rows["asked"], folder / PAGE)
            if against is not None:
                theirs = _answers(against / _folder(title) / "asked.jsonl", asked)
                results[-1]["against"] = compare(benchmark, asked, rows["asked"], theirs)
    write_report(results, runtime.name, out)
    typer.echo(table(results, runtime.name), nl=False)
    for one in results:
        if "against" in one:
            told = one["against"]
            low, high = told["interval"]
            typer.echo(
                f"{one['benchmark']}: {told['difference']:+.3f} ({low:+.3f} to {high:+.3f}), p = {told['p']:.4f}"
            )
    note(f"{out}: answers, scores and pages of errors")


def _folder(title: str) -> str:
    return title.replace(":", "-")


def _spread(items: list, limit: int | None) -> list:
    if limit is None or limit >= len(items):
        return items
    return [items[(2 * n + 1) * len(items) // (2 * limit)] for n in range(limit)]


def _answers(path: Path, asked: list) -> list[dict[str, Any]]:
    """Return the other model's answers to the same questions.

    Raises:
        DataError: it has not answered all of them, or saw their options in another order.
    """
    from lhrs.data.dataset import read_json_lines
    from lhrs.errors import DataError
    from lhrs.evaluation.asking import order_of

    found = {(row["id"], row["rotation"]): row for _, row in read_json_lines(path)}
    missing = [one.item.id for one in asked if (one.item.id, one.rotation) not in found]
    if missing:
        raise DataError(f"{path} has no answer to {missing[0]} and {len(missing) - 1} more of these questions.")
    rows = [found[one.item.id, one.rotation] for one in asked]
    for one, row in zip(asked, rows, strict=True):
        if row.get("options") != order_of(one.item):
            raise DataError(f"{path} has seen the options of {one.item.id} in another order: use its --protocol.")
    return rows


def _counting(what: str, total: int) -> Any:
    """Show a bar that moves by any number."""
    from contextlib import contextmanager

    from lhrs.cli.terminal import progress

    @contextmanager
    def bar() -> Any:
        with progress(what, total) as advance:
            yield lambda count: [advance() for _ in range(count)]

    return bar()

"""Evaluate a model on benchmarks: ask the questions, score the answers, write the report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lhrs.data.dataset import read_json_lines
from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.benchmark import Benchmark, Item, benchmark_names, data_provenance, open_benchmark
from lhrs.evaluation.metrics import find_metric
from lhrs.evaluation.prompts import PROTOCOLS, VARIANTS, PromptedItem, build_prompts, options_hash
from lhrs.evaluation.report import PAGE, compare, score_answers, score_table, write_errors, write_report
from lhrs.evaluation.runner import Row, answer_all
from lhrs.inference.load import load, model_hash
from lhrs.inference.options import ModelOptions
from lhrs.inference.runtime import Runtime
from lhrs.metrics.metric import Metric
from lhrs.progress import Progress, no_progress

T = TypeVar("T")
ENGINES = ("local", "ray")
FILES = {"normal": "predictions.jsonl", "blind": "blind.jsonl", "shuffled": "shuffled.jsonl"}
"""Names of the files of answers by variant."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`."""

    model: str
    results: list[dict[str, Any]]
    """One entry per benchmark, as in `scores.json`."""

    def table(self) -> str:
        """Return the scores as a Markdown table."""
        return score_table(self.results, self.model)

    def comparisons(self) -> list[str]:
        """Return one line per benchmark that was compared with another model."""
        lines = []
        for result in self.results:
            if comparison := result.get("comparison"):
                low, high = comparison["interval"]
                difference, p = comparison["difference"], comparison["p"]
                lines.append(f"{result['benchmark']}: {difference:+.3f} ({low:+.3f} to {high:+.3f}), p = {p:.4f}")
        return lines


@dataclass
class _Task:
    """A benchmark and the questions that are asked of it."""

    benchmark: Benchmark
    metric: Metric
    items: list[Item]
    complete: bool
    provenance: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> None:
        """Compute the provenance of the questions."""
        complete = self.complete and not len(self.benchmark.dropped)
        self.provenance = data_provenance(self.benchmark, self.items, complete)


def evaluate(
    benchmarks: Sequence[str | Benchmark],
    *,
    model: str = "lhrs-nano",
    output_dir: str | Path = "results/eval",
    protocol: str = "free",
    limit: int | None = None,
    baselines: bool = True,
    batch_size: int = 16,
    compare_to: str | Path | None = None,
    device: str | None = None,
    options: ModelOptions = ModelOptions(),  # noqa: B008 (frozen)
    engine: str = "local",
    num_workers: int = 2,
    progress: Progress = no_progress,
    log: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate a model on benchmarks and write answers, scores and pages of errors.

    Args:
        benchmarks: each `NAME[:SPLIT]=PATH`, `NAME[:SPLIT]` to download the data, or an open benchmark.
        model: folder, hub id, or URL of a server.
        output_dir: folder of answers and scores. An evaluation that was stopped resumes there.
        protocol: one of `lhrs.evaluation.prompts.PROTOCOLS`.
        limit: ask only this many questions per benchmark, evenly spread.
        baselines: ask also without the image and with the image of another question.
        batch_size: questions per call of the model; does not change the answers.
        compare_to: `output_dir` of another model, for a paired test.
        device: cpu, cuda, ...
        options: see `lhrs.load`; `max_new_tokens` replaces the limit of each metric.
        engine: `local`, or `ray` for copies of the model on the workers of a cluster.
        num_workers: number of copies with the engine `ray`.
        progress: reports the questions done.
        log: receives remarks, one line each.

    Raises:
        ConfigError: an option or the name of a benchmark or model is wrong.
        DataError: data of a benchmark are missing or broken.
        MissingExtraError: an optional dependency is not installed.
    """
    for name, value, known in (("protocol", protocol, PROTOCOLS), ("engine", engine, ENGINES)):
        if value not in known:
            raise ConfigError(f"{name} is one of {', '.join(known)}, not {value!r}.")
    if not benchmarks:
        raise ConfigError(f"name a benchmark and its data, NAME=PATH; known: {', '.join(benchmark_names())}.")
    tasks, output = _open_tasks(benchmarks, limit, log), Path(output_dir)
    with _open_runtime(model, engine, num_workers, batch_size, device, options) as (runtime, questions_at_once):
        hashed = model_hash(model, runtime.name, options)
        limit = options.max_new_tokens
        run = _Run(runtime, hashed, protocol, baselines, questions_at_once, limit, progress, log)
        results = [run(task, output, compare_to) for task in tasks]
    write_report(results, runtime.name, output)
    return Evaluation(runtime.name, results)


@dataclass(frozen=True)
class _Run:
    """How all benchmarks of one evaluation are asked."""

    runtime: Runtime
    model_hash: str
    protocol: str
    baselines: bool
    batch_size: int
    max_new_tokens: int | None
    progress: Progress
    log: Callable[[str], None]

    def __call__(self, task: _Task, output: Path, compare_to: str | Path | None) -> dict[str, Any]:
        """Return the scores of one benchmark, and write its answers and its page of errors."""
        benchmark, metric = task.benchmark, task.metric
        folder = output / benchmark.full_name.replace(":", "-")
        prompted = build_prompts(task.items, metric, self.runtime.family, self.protocol)
        prompted, normal = _drop_unreadable(task, prompted, self._answer(task, prompted, "normal", folder))
        rows = {"normal": normal}
        for variant in VARIANTS[1:] if self.baselines else ():
            rows[variant] = [row for row in self._answer(task, prompted, variant, folder) if row is not None]
        result = {
            "model_hash": self.model_hash, **task.provenance,
            **score_answers(benchmark, metric, prompted, rows, self.protocol),
        }  # fmt: skip
        if len(benchmark.dropped):
            result["dropped"] = benchmark.dropped.to_dict()
            self.log(f"{benchmark.full_name}: {benchmark.dropped.summary()}")
        write_errors(benchmark, metric, prompted, normal, folder / PAGE)
        if compare_to is not None:
            other = _other_rows(Path(compare_to) / folder.name / FILES["normal"], prompted)
            result["comparison"] = compare(metric, prompted, normal, other, benchmark.all_wordings)
        return result

    def _answer(self, task: _Task, prompted: list[PromptedItem], variant: str, folder: Path) -> list[Row | None]:
        with self.progress(f"{task.benchmark.full_name} {variant}", len(prompted)) as bar:
            return answer_all(
                self.runtime, self.model_hash, prompted, task.metric, variant=variant, path=folder / FILES[variant],
                batch_size=self.batch_size, bar=bar, dropped=task.benchmark.dropped,
                max_new_tokens=self.max_new_tokens,
            )  # fmt: skip


def _open_tasks(benchmarks: Sequence[str | Benchmark], limit: int | None, log: Callable[[str], None]) -> list[_Task]:
    """Return the benchmarks with their questions, before a model is loaded."""
    tasks: dict[str, _Task] = {}
    for name_or_path in benchmarks:
        benchmark = open_benchmark(name_or_path, log) if isinstance(name_or_path, str) else name_or_path
        name = benchmark.full_name
        if name in tasks:
            raise ConfigError(f"{name} is listed twice; score it in two runs with separate output folders.")
        metric = find_metric(benchmark.metric)
        if not metric.asks_models:
            raise ConfigError(
                f"{name} ranks candidates, which a model that writes text cannot: score rankings of any program by "
                f"`lhrs score --benchmark {name}=PATH`."
            )
        every = benchmark.items_with_images()
        items = _spread_questions(every, limit) if benchmark.all_wordings else _spread(every, limit)
        task = tasks[name] = _Task(benchmark, metric, items, len(items) == len(every))
        task.describe()
        if task.provenance["pinned"] is False:
            digest, expected = task.provenance["data_hash"], task.provenance["expected_hash"]
            log(f"{name}: data hash {digest}, not the pinned {expected}: other questions or images than the official")
    return list(tasks.values())


@contextmanager
def _open_runtime(
    model: str, engine: str, num_workers: int, batch_size: int, device: str | None, options: ModelOptions
) -> Iterator[tuple[Runtime, int]]:
    """Yield the runtime of the model, and the number of questions per call."""
    if engine == "ray":
        from lhrs.inference.runtimes.ray import ray_runtime

        with ray_runtime(model, num_workers, batch_size, device, options) as runtime:
            yield runtime, 2 * num_workers * batch_size
    else:
        yield load(model, device, options).runtime, batch_size


def _drop_unreadable(
    task: _Task, prompted: list[PromptedItem], rows: list[Row | None]
) -> tuple[list[PromptedItem], list[Row]]:
    """Return the questions whose image could be read, with their rows."""
    answered = [(question, row) for question, row in zip(prompted, rows, strict=True) if row is not None]
    if not answered:
        raise DataError(f"{task.benchmark.full_name}: no image can be read. {task.benchmark.dropped.summary()}")
    if len(answered) < len(prompted):
        read = {question.item.id for question, _ in answered}
        task.items = [item for item in task.items if item.id in read]
        task.describe()
    return [question for question, _ in answered], [row for _, row in answered]


def _spread_questions(items: list[Item], limit: int | None) -> list[Item]:
    """Return all wordings of `limit` questions, evenly spread."""
    questions: dict[str, list[Item]] = {}
    for item in items:
        questions.setdefault(item.question_group or item.id, []).append(item)
    return [item for wordings in _spread(list(questions.values()), limit) for item in wordings]


def _spread(items: list[T], limit: int | None) -> list[T]:
    """Return `limit` items, evenly spread; all of them without a limit."""
    if limit is None or limit >= len(items):
        return items
    return [items[(2 * n + 1) * len(items) // (2 * limit)] for n in range(limit)]


def _other_rows(path: Path, prompted: Sequence[PromptedItem]) -> list[dict[str, Any]]:
    """Return another model's answers to the same questions.

    Raises:
        DataError: it has not answered all of them, or saw their options in another order.
    """
    answered = {(row["id"], row["rotation"]): row for _, row in read_json_lines(path)}
    missing = [question.item.id for question in prompted if (question.item.id, question.rotation) not in answered]
    if missing:
        raise DataError(f"{path} has no answer to {missing[0]} and {len(missing) - 1} more of these questions.")
    rows = [answered[question.item.id, question.rotation] for question in prompted]
    for question, row in zip(prompted, rows, strict=True):
        if row.get("options") != options_hash(question.item):
            raise DataError(f"{path} has seen the options of {question.item.id} in another order: use its protocol.")
    return rows

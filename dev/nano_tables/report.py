"""A section of the report: rows with intervals, written as JSON and Markdown."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.metrics.statistics import bootstrap, wilson


@dataclass
class Row:
    """One line of a table."""

    task: str
    metric: str
    n: int
    score: float
    low: float | None = None
    """Lower end of the 95 % interval; None if there is none."""
    high: float | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    """Scores of what answers without the image or the model, and ratios."""


@dataclass
class Section:
    """One table, with what it was computed from."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences below the table."""
    details: dict[str, Any] = field(default_factory=dict)
    """Answers one by one, in the JSON file only."""

    def add_accuracy(self, task: str, hits: Sequence[bool], metric: str = "accuracy", **baselines: float) -> float:
        """Add a row for a fraction with its Wilson interval, and return the fraction."""
        low, high = wilson(int(sum(hits)), len(hits))
        score = float(np.mean(hits)) if len(hits) else float("nan")
        self.rows.append(Row(task, metric, len(hits), score, low, high, baselines))
        return score

    def add_mean(self, task: str, values: Sequence[float] | np.ndarray, metric: str, **baselines: float) -> None:
        """Add a row for a mean with its bootstrap interval."""
        values = np.asarray(values, float)
        self.rows.append(Row(task, metric, len(values), float(values.mean()), *bootstrap(values), baselines))


def markdown(section: Section, model: str, command: str, commit: str) -> str:
    """Return a section as Markdown."""
    lines = [f"# {section.title}", "", f"Model `{model}`, commit `{commit}`:", "", "```", command, "```"]
    if section.rows:
        lines += ["", "| task | metric | n | score | 95 % interval | beside it |", "|---|---|---|---|---|---|"]
    for row in section.rows:
        interval = "" if row.low is None or row.high is None else f"{row.low:.3f} - {row.high:.3f}"
        beside = ", ".join(f"{name} {value:.3f}" for name, value in row.baselines.items())
        lines.append(f"| {row.task} | {row.metric} | {row.n} | **{row.score:.3f}** | {interval} | {beside} |")
    lines += ["", *(f"- {note}" for note in section.notes)] if section.notes else []
    return "\n".join(lines).rstrip() + "\n"


def write(section: Section, name: str, folder: Path, model: str, command: str, commit: str) -> None:
    """Write `NAME.json` and `NAME.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"model": model, "command": command, "commit": commit, **asdict(section)}
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown(section, model, command, commit), encoding="utf-8")


def read_scores(file: Path) -> dict[tuple[str, str], float]:
    """Return the scores of a JSON file of `write` by task and metric; none if the file is missing."""
    if not file.exists():
        return {}
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {(row["task"], row["metric"]): row["score"] for row in rows}


def current_commit() -> str:
    """Return the short hash of the checkout, with `-dirty` if tracked files are changed."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()

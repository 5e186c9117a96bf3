"""Write docs/leaderboard.md from what is in results/.

    python dev/leaderboard.py

- `results/public_record.csv`: numbers that others reported, in percent but for CIDEr, each with where it was found and
  what is known of the scorer that made it. `strict` is the same system under a sound scorer.
- `results/eval/*/scores.json`, `results/lhrs-nano/*.json`: ours; the words beside them are their README's.
"""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from lhrs.atomic_io import write_atomic
from lhrs.errors import DataError
from lhrs.metrics.legacy import LEGACY

ROOT = Path(__file__).parents[1]
RECORD = "results/public_record.csv"
PAGE = "docs/leaderboard.md"
TITLE = "Leaderboard: published scores and the reliability of their scorers"
STANDING = {
    "strict": "sound: an answer is correct or wrong, and box overlap is exact",
    "doubtful": "accepts empty or exhaustive answers, which is unfair between models",
    "broken": "its defect changes published scores: do not compare them",
    "unknown": "the scorer was not published",
}
EVIDENCE = {
    "V": "code read and run by us",
    "R": "the paper, README, model card or figure that reports it",
    "S": "a secondary source: an issue, a survey, a copy",
    "M": "recalled, not checked",
}
_COLUMNS = (
    *("system", "benchmark", "split", "metric", "value", "scorer", "standing", "strict", "strict_source", "source"),
    *("evidence", "note"),
)
_SHARES = {"accuracy", "circular", "share", "F1", "AUROC"}


@dataclass(frozen=True)
class Cell:
    """One cell: its words, how they are set, and what stands small beside them."""

    text: str
    kind: str = ""
    """`main` (the number that counts), `broken`, `doubtful`, or plain."""
    small: str = ""
    mark: str = ""
    """A word of `STANDING`."""


@dataclass(frozen=True)
class Table:
    """A heading, the paragraphs below it, and rows."""

    title: str
    words: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def read_record(path: Path) -> list[dict[str, str]]:
    """Return the public record.

    Raises:
        DataError: a row lacks what it must have, or says what is not known.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise DataError(f"{path} has not the columns {', '.join(_COLUMNS)}.")
    allowed = {"scorer": {"strict", "unknown", *LEGACY}, "standing": set(STANDING), "evidence": set(EVIDENCE)}
    for n, row in enumerate(rows, 2):
        for name, known in allowed.items():
            if row[name] not in known:
                raise DataError(f"{path}, line {n}: {name} is {row[name]!r}, not one of {', '.join(sorted(known))}.")
        missing = [name for name in ("system", "benchmark", "metric", "value", "source") if not row[name].strip()]
        missing += ["strict_source"] if row["strict"] and not row["strict_source"] else []
        if missing:
            raise DataError(f"{path}, line {n}: no {missing[0]}.")
        if (row["scorer"] == "strict") != (row["standing"] == "strict"):
            raise DataError(f"{path}, line {n}: a scorer is strict if and only if its standing is.")
    return rows


def _record_table(rows: Sequence[dict[str, str]]) -> Table:
    letters = {row["evidence"] for row in rows}
    return Table(
        "The public record",
        [
            "Scores that others reported, in percent except CIDEr. Values of a broken scorer are struck through, "
            "values of a doubtful one are marked. Means of listed values and unverified values are left out.",
            *(f"- **{name}**: {words}." for name, words in STANDING.items()),
            "Letters after a source: "
            + "; ".join(f"**{letter}** {words}" for letter, words in EVIDENCE.items() if letter in letters)
            + ". Names of scorers are those of `lhrs score --legacy`.",
            "Sound scorers alone do not make scores comparable: Qwen2-VL-7B has 44.25 and 11.87 on DIOR-RSVG, both "
            "with exact overlap, with different prompts and parsers on different splits.",
        ],
        ("system", "benchmark", "metric", "reported", "strict", "scorer", "source", "note"),
        [
            (
                Cell(row["system"]),
                Cell(row["benchmark"], small=row["split"]),
                Cell(row["metric"]),
                Cell(row["value"], row["standing"]),
                Cell(row["strict"]),
                Cell("" if row["scorer"] == row["standing"] else row["scorer"], mark=row["standing"]),
                Cell(row["source"], small=row["evidence"]),
                Cell(row["note"]),
            )
            for row in rows
        ],
    )


def _rescored_table(rows: Sequence[dict[str, str]]) -> Table:
    sound: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["standing"] == "strict":
            sound.setdefault((row["system"], row["benchmark"]), []).append(row["value"])
    found = []
    for row in rows:
        if row["strict"]:
            others = [v for v in sound.get((row["system"], row["benchmark"]), []) if v != row["strict"]]
            found.append((
                Cell(row["system"]), Cell(row["benchmark"], small=row["metric"]),
                Cell(row["value"], row["standing"]), Cell(row["strict"]), Cell(", ".join(others)),
                Cell(row["strict_source"]), Cell(row["note"]),
            ))  # fmt: skip
    return Table(
        "Rescored systems",
        [
            "The same system with a sound scorer. LHRS-Bot was rescored on the same answers, the others on new ones. "
            "Other strict values of the same system are from other sources in the public record."
        ],
        ("system", "benchmark", "reported", "strict", "other strict", "rescored by", "defect"),
        found,
    )


def _number(value: float | None, metric: str) -> str:
    """Return shares in percent, other values as they are; nothing where there is none."""
    if value is None or value != value:
        return ""
    return f"{Decimal(f'{value:.3f}') * 100:.1f}" if metric in _SHARES else f"{value:.3f}"


def _own_tables(results: Path) -> list[Table]:
    rows = []
    for path in sorted(results.glob("eval/*/scores.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        for one in content["results"]:
            metric, controls = one["metric"], one["baselines"]
            told: list[float | None] = [controls.get("majority", controls.get("chance")), controls.get("blind"),
                                        controls.get("shuffled")]  # fmt: skip
            rows.append((
                Cell(content["model"]), Cell(one["benchmark"], small=one["protocol"]), Cell(metric),
                Cell(f"{one['n']:,}"), Cell(_number(one["score"], metric), "main"),
                Cell(_span(one["interval"], metric)),
                Cell(_number(one["parse_failure_rate"], "share")),
                *(Cell(_number(value, metric)) for value in told), Cell(_place(path, results)),
            ))  # fmt: skip
    columns = ("model", "benchmark", "metric", "n", "score", "95 %", "parse failures", "majority", "blind", "shuffled",
               "source")  # fmt: skip
    tasks = [_task(one, path, results) for path in sorted(results.glob("lhrs-nano/*.json"))
             for one in json.loads(path.read_text(encoding="utf-8"))["rows"]]  # fmt: skip
    looking = (
        "Fractions are in percent. Each score has blind baselines: the most frequent answer (or chance), the model "
        "without the image, and the model with another image."
    )
    learned = (
        "The embedded model was trained on other images of some of these data sets: `results/lhrs-nano/README.md` "
        'says which, and which scores influenced its training. "the other model" is the embedded model before it.'
    )
    named = ("task", "metric", "n", "score", "95 %", "constant", "blind", "shuffled", "other controls", "source")
    return [
        Table("lhrs on benchmarks", [looking, *_words(results / "eval/README.md")], columns, rows),
        Table("lhrs-nano on its own tasks", [learned], named, tasks),
    ]


def _task(one: dict[str, Any], path: Path, results: Path) -> tuple[Cell, ...]:
    metric, beside = one["metric"], dict(one["baselines"])
    constant = [beside.pop(name) for name in ("majority", "chance", "constant") if name in beside]
    told = [constant[0] if constant else None, beside.pop("blind", None), beside.pop("shuffled", None)]
    return (
        Cell(one["task"]), Cell(metric), Cell(f"{one['n']:,}"),
        Cell(_number(one["score"], metric), "main"), Cell(_span((one["low"], one["high"]), metric)),
        *(Cell(_number(value, metric)) for value in told),
        Cell(", ".join(f"{name} {_number(value, metric)}" for name, value in beside.items())),
        Cell(_place(path, results)),
    )  # fmt: skip


def _span(interval: Sequence[float | None], metric: str) -> str:
    ends = [_number(end, metric) for end in interval]
    return " - ".join(ends) if all(ends) else ""


def _place(path: Path, results: Path) -> str:
    return f"results/{path.parent.relative_to(results).as_posix()}"


def _words(path: Path) -> list[str]:
    """Return the paragraphs of a README but for headings and commands."""
    parts = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL).split("\n\n")
    return [" ".join(part.split()) for part in parts if part.strip() and not part.lstrip().startswith("#")]


def as_markdown(tables: Sequence[Table]) -> str:
    """Return the page as Markdown."""
    lines = [f"# {TITLE}", "", "Made by `python dev/leaderboard.py` from `results/`.", ""]
    for table in tables:
        lines += [f"## {table.title}", ""]
        for words in table.words:
            lines += [words] if words.startswith("- ") else ["", words, ""]
        lines += ["", f"| {' | '.join(table.columns)} |", "|" + "---|" * len(table.columns)]
        lines += [f"| {' | '.join(map(_markdown_cell, row))} |" for row in table.rows]
        lines.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _markdown_cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    if text:
        text = {"broken": f"~~{text}~~", "doubtful": f"{text} (?)", "main": f"**{text}**"}.get(cell.kind, text)
    return " ".join(part for part in (text, cell.small and f"({cell.small})", cell.mark) if part)


def make(root: Path = ROOT) -> str:
    """Return the page.

    Raises:
        DataError: the record is not as it should be.
    """
    record = read_record(root / RECORD)
    return as_markdown([_rescored_table(record), *_own_tables(root / "results"), _record_table(record)])


if __name__ == "__main__":
    write_atomic(ROOT / PAGE, make())

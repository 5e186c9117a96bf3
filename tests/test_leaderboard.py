"""The leaderboard is what is in results/, and nothing on it comes from nowhere."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import pytest

from lhrs.errors import DataError

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results/public_record.csv"


@pytest.fixture(scope="module")
def board():
    spec = importlib.util.spec_from_file_location("leaderboard", ROOT / "dev/leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_what_is_made_from_results(board):
    assert (ROOT / board.PAGE).read_text(encoding="utf-8") == board.make(), "run python dev/leaderboard.py"


def test_every_number_of_ours_is_there_with_its_controls(board):
    page = board.make()
    for path in (ROOT / "results/eval").glob("*/scores.json"):
        for one in json.loads(path.read_text())["results"]:
            lines = [x for x in page.splitlines() if f"| {one['benchmark']} ({one['protocol']}) |" in x]
            row = next(x for x in lines if x.endswith(f"| results/eval/{path.parent.name} |"))
            cells = [cell.strip(" *") for cell in row.split("|")]
            scale = 100 if one["metric"] == "accuracy" else 1
            values = [one["score"], *(one["baselines"].get(name) for name in ("majority", "blind", "shuffled"))]
            for value, shown in zip(values, [cells[5], *cells[8:11]], strict=True):
                assert (shown == "") if value is None else float(shown) == pytest.approx(scale * value, abs=0.06)


def test_values_of_broken_scorers_are_struck(board):
    broken = [row["value"] for row in board.read_record(RECORD) if row["standing"] == "broken"]
    struck = re.findall(r"~~([\d.]+)~~", board.make().split("## The public record")[1])
    assert struck == broken and len(broken) > 10


@pytest.mark.parametrize(
    ("column", "value", "line"),
    [
        ("source", " ", "line 2: no source"),
        ("value", "", "line 2: no value"),
        ("scorer", "mine", "line 2: scorer is 'mine', not one of"),
        ("evidence", "", "line 2: evidence is ''"),
        ("standing", "strict", "strict if and only if"),
        ("strict", "1.0", "line 2: no strict_source"),
    ],
)
def test_rows_from_nowhere_are_refused(board, tmp_path, column, value, line):
    with RECORD.open(newline="") as file:
        first = next(row for row in csv.DictReader(file) if row["standing"] == "unknown" and not row["strict"])
    with (tmp_path / "record.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, first)
        writer.writeheader()
        writer.writerow({**first, column: value})
    with pytest.raises(DataError, match=line):
        board.read_record(tmp_path / "record.csv")

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lhrs.cli.data import app
from lhrs.errors import ConfigError, DataError


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def data(tmp_path, write_image) -> Path:
    """Fourteen samples whose answers are empty, one of them without its image."""
    rows = []
    for i in range(14):
        turns = [{"role": "user", "text": f"Question {i}?"}, {"role": "assistant", "text": ""}]
        image = write_image(f"{i}.png").name if i else "gone.png"
        boxes = [{"label": "ship", "xyxy": [1, 2, 3, 4]}] * 5
        rows.append(
            {"id": f"set/{i}", "images": [image], "turns": turns, "boxes": boxes, "labels": ["port"], "source": "set",
             "license": "CC0-1.0", "split": "train" if i < 10 else "val"}
        )  # fmt: skip
    (tmp_path / "set.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path / "set.jsonl"


def test_show_counts_and_prints_the_first_samples(data):
    out, _ = run("show", data)
    counts, first, second, third = out.split("\n\n")
    lines = [" ".join(line.split()) for line in counts.splitlines()]
    assert lines == [
        "samples 14 with 14 images; 2.0 turns on average",
        "boxes 70 in 14 samples",
        "split 10 train",
        "4 val",
        "license 14 CC0-1.0",
        "class 14 port",
        "box 70 ship",
    ]
    assert first.splitlines() == [
        "set/0",
        f"  image: {data.parent / 'gone.png'}",
        "  class: port",
        *["  box: ship [1.0, 2.0, 3.0, 4.0]"] * 3,
        "  and 2 more boxes",
        "  user: Question 0?",
        "  assistant: ",
    ]
    assert second.startswith("set/1\n") and third.startswith("set/2\n")


def test_show_reads_no_more_than_the_limit(data):
    with data.open("a") as file:
        file.write("broken\n")
    assert "samples    2 with 2 images" in run("show", data, "--limit", 2)[0]
    with pytest.raises(DataError, match=r"set\.jsonl:15: not valid JSON"):
        run("show", data)


def test_show_takes_a_split_and_a_format(data):
    out, _ = run("show", data, "--split", "val", "--format", "jsonl")
    assert "samples    4 with" in out and "set/10\n" in out


def test_show_of_a_reader_says_what_it_reads():
    out, _ = run("show", "rsvqa")
    assert "a folder with {LR,USGS}_split_<split>_{questions,answers,images}.json" in out and "CC-BY-4.0" in out


def test_an_unknown_reader_is_refused_with_the_known_ones(data):
    with pytest.raises(ConfigError, match=r"no dataset is called 'jsnol'. Did you mean 'jsonl'\?"):
        run("show", data, "--format", "jsnol")


def test_lint_tells_the_first_of_each_code_and_exits_with_1(data):
    out, err = run("lint", data, code=1)
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["error", "empty-answer", "set/0:"]
    assert [line.split()[1] for line in lines].count("empty-answer") == 10
    assert [line for line in lines if "missing-image" in line and "gone.png does not exist" in line]
    assert lines[-1] == "and 4 more empty-answer; --json prints all"
    assert err.strip() == "samples: 14, errors: 15, warnings: 0"


def test_lint_as_json_prints_all_findings_one_a_line(data):
    out, _ = run("lint", data, "--json", code=1)
    findings = [json.loads(line) for line in out.splitlines()]
    assert len(findings) == 15
    assert findings[0].keys() == {"code", "severity", "sample", "message"}


def test_lint_without_images_misses_none(data):
    assert "missing-image" not in run("lint", data, "--no-images", code=1)[0]


def test_lint_exits_with_0_on_warnings(data):
    rows = [json.loads(line) for line in data.read_text().splitlines()[1:]]
    for row in rows:
        row["turns"][1]["text"] = "Yes."
    rows.append(rows[0] | {"id": "set/again"})
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    out, err = run("lint", data)
    assert out.split()[:3] == ["warning", "duplicate", "set/again:"]
    assert err.strip() == "samples: 14, errors: 0, warnings: 1"

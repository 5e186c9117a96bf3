"""The data judged by eye are complete, agree with each other and name files that exist."""

import csv
import re
from collections import Counter

import yaml
from dev.gold_windows import ATTRIBUTES, GOLD, balance, draw_windows, read_rows, read_window

COVERS = {"trees", "low_vegetation", "built_up", "water", "bare"}


def labels() -> list[dict[str, str]]:
    with (GOLD / "window_labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_window_has_five_labels():
    windows = read_rows(GOLD / "windows.jsonl")
    assert [str(row["id"]) for row in windows] == [row["id"] for row in labels()]
    assert {row[name] for row in labels() for name in ATTRIBUTES} == {"yes", "no", "unclear"}


def test_presence_is_balanced_and_follows_from_the_labels():
    rows = read_rows(GOLD / "presence.jsonl")
    assert rows == balance(read_rows(GOLD / "windows.jsonl"), labels())
    counts = Counter((row["attribute"], row["answer"]) for row in rows)
    for name in ATTRIBUTES:
        assert counts[name, "yes"] == counts[name, "no"] >= 30


def test_shares_of_bordeaux_add_up_and_agree_with_the_main_cover():
    for row in read_rows(GOLD / "bordeaux_windows.jsonl"):
        assert set(row["shares"]) == COVERS
        assert sum(row["shares"].values()) == 100
        assert row["shares"][row["main"]] == max(row["shares"].values())


def test_forty_shares_add_up():
    rows = read_rows(GOLD / "shares.jsonl")
    assert len(rows) == 40
    for row in rows:
        assert set(row["shares"]) == COVERS
        assert sum(row["shares"].values()) == 100


def test_questions_are_complete():
    rows = read_rows(GOLD / "questions80.jsonl")
    assert [row["id"] for row in rows] == list(range(1, 81))
    assert len({row["question"] for row in rows}) > 75
    for row in rows:
        assert row["images"] and row["question"] and row["right"]


def test_images_of_questions_exist_and_are_held_back(shared_data):
    held_back = {f"{row['set']}/{row['file']}" for row in read_rows(GOLD / "held_back.jsonl")}
    for name in {name for row in read_rows(GOLD / "questions80.jsonl") for name in row["images"]}:
        assert (shared_data / name).is_file()
        dataset = name.split("/")[0]
        assert name in held_back or "/predict/" in name or "/test/" in name or dataset == "ucmerced"


def test_labels_are_own_words_for_taught_classes(shared_data):
    taught = {
        "eurosat": {folder.name for folder in (shared_data / "eurosat/test").iterdir()},
        "ucmerced": {row["label"] for row in read_rows(shared_data / "ucmerced/index.jsonl")},
    }
    names = {name.lower() for classes in taught.values() for name in classes}
    sets = yaml.safe_load((GOLD / "label_sets.yaml").read_text(encoding="utf-8"))
    assert {dataset: len(parts) for dataset, parts in sets.items()} == {"eurosat": 6, "ucmerced": 6}
    for dataset, parts in sets.items():
        for labels in parts:
            classes = [name for names in labels.values() for name in names]
            assert 3 <= len(labels) <= 5
            assert len(classes) == len(set(classes))
            assert set(classes) <= taught[dataset]
            assert not {re.sub(r"[^a-z]", "", label.lower()) for label in labels} & names


def test_windows_are_drawn_again_as_they_are(shared_data):
    windows, held_back = draw_windows(shared_data)
    assert windows == read_rows(GOLD / "windows.jsonl")
    assert held_back == read_rows(GOLD / "held_back.jsonl")


def test_windows_have_the_stated_size(shared_data):
    for row in read_rows(GOLD / "windows.jsonl")[::25]:
        assert read_window(shared_data, row).size == tuple(row["window"][2:])

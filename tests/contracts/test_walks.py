"""The five walks of docs/architecture.md; `dev/walks.py` checks them against real runs, which takes a minute."""

from dev.walks import PREPARE, ROOT, SRC, count, read_walks

WALKS = read_walks((ROOT / "docs/architecture.md").read_text())


def test_there_are_five_walks_of_at_most_twelve_files():
    assert WALKS.keys() == PREPARE.keys()
    assert all(5 < len(files) == len(set(files)) <= 12 for files in WALKS.values())


def test_their_files_exist():
    assert not [file for files in WALKS.values() for file in files if not (SRC / file).exists()]


def test_consecutive_entries_are_one():
    assert count(["a", "a", "b", "a"]) == {"a": 2, "b": 1}

"""No name that was replaced is left: the table is dev/old_names.txt, the search is dev/old_names.py."""

import pytest
from dev.old_names import EXCEPTIONS, KINDS, find, keys_of, read_table


@pytest.fixture(scope="module")
def left():
    return find()


@pytest.mark.parametrize("kind", KINDS)
def test_no_old_name_is_left(kind, left):
    found = [f"{one.place}: {one.entry.old} is now {one.entry.new}" for one in left if one.entry.kind == kind]
    assert not found, "\n".join(found)


def test_the_table_is_whole():
    entries = read_table()
    assert {entry.kind for entry in entries} == set(KINDS)
    assert all(entry.old != entry.new for entry in entries)
    assert len({(entry.kind, entry.scope, entry.old) for entry in entries}) == len(entries)


def test_exceptions_are_few_and_have_reasons():
    assert len(EXCEPTIONS) <= 10 and all(reason.strip() for reason in EXCEPTIONS.values())
    assert {(entry.kind, entry.old) for entry in read_table()} >= EXCEPTIONS.keys()


def test_keys_are_found_at_any_depth():
    assert list(keys_of({"a": {"b": [{"c": 1}]}})) == [("", "a"), ("a", "b"), ("b", "c")]

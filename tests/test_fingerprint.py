import os

from lhrs import fingerprint


def test_of_file_changes_with_content_and_time(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    fast, full = fingerprint.of_file(path), fingerprint.of_file(path, content=True)
    os.utime(path, ns=(1, 1))
    assert fingerprint.of_file(path) != fast
    assert fingerprint.of_file(path, content=True) == full
    path.write_text("two")
    assert fingerprint.of_file(path, content=True) != full


def test_of_config_ignores_the_order_of_keys():
    assert fingerprint.of_config({"a": 1, "b": [2]}) == fingerprint.of_config({"b": [2], "a": 1})
    assert fingerprint.of_config({"a": 1}) != fingerprint.of_config({"a": 2})


def test_of_bytes_separates_its_parts():
    assert fingerprint.of_bytes(b"ab", b"c") != fingerprint.of_bytes(b"a", b"bc")


def test_changes_names_what_differs():
    before = {"x/a.png": "1", "x/b.png": "2", "x/c.png": "3"}
    after = {"x/c.png": "4", "x/d.png": "5"}
    words = fingerprint.changes(before, after)
    assert words == "2 files were removed (a.png, ...), 1 file was added (d.png), 1 file was changed (c.png)"
    assert fingerprint.changes(before, dict(before)) == ""

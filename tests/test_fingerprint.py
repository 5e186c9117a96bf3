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


def test_the_sha256_of_a_file_is_that_of_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    wanted = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert fingerprint.sha256_of_file(tmp_path / "a") == wanted


def test_a_restored_file_has_not_changed(tmp_path):
    paths = [tmp_path / "a/x.png", tmp_path / "a/y.png", tmp_path / "b.png"]
    for n, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([n]))
    before = fingerprint.of_files(paths, tmp_path)
    assert list(before) == ["a/x.png", "a/y.png", "b.png"]
    for path in paths:
        os.utime(path, ns=(1, 1))
    restored = fingerprint.of_files(paths, tmp_path)
    assert restored != before and fingerprint.changes(before, restored) == ""
    paths[1].write_bytes(b"z")  # of the same size
    assert fingerprint.changes(before, fingerprint.of_files(paths, tmp_path)) == "1 file was changed (y.png)"
    paths[0].unlink()
    paths[0].mkdir()
    assert "2 files were changed" in fingerprint.changes(before, fingerprint.of_files(paths, tmp_path))


def test_only_size_and_time_of_large_sets_count(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_HASHED_FILES", 1)
    paths = [tmp_path / "a", tmp_path / "b", "/vsizip/x.zip/y.tif"]
    for path in paths[:2]:
        path.write_bytes(b"1")
    before = fingerprint.of_files(paths)
    assert fingerprint.changes(before, fingerprint.of_files(paths)) == ""
    os.utime(paths[0], ns=(1, 1))
    assert fingerprint.changes(before, fingerprint.of_files(paths)) == "1 file was changed (a)"


def test_what_is_added_to_a_value_counts_too():
    assert fingerprint.changes({"a": "1:2:3:grid"}, {"a": "1:9:3:grid"}) == ""
    assert fingerprint.changes({"a": "1:2:3:grid"}, {"a": "1:9:3:other"}) == "1 file was changed (a)"
    assert fingerprint.changes({"a": "1:2::grid"}, {"a": "1:9::grid"}) == "1 file was changed (a)"


def test_paths_are_relative_to_a_folder(tmp_path):
    relative = fingerprint.relative_to(tmp_path / "root")
    for path in (tmp_path / "root/a/b.png", tmp_path / "root/c.png", tmp_path / "d.png", "e.png"):
        assert relative(path) == os.path.relpath(path, tmp_path / "root")


def test_a_folder_changes_with_its_files(tmp_path):
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene/B04.tif").write_bytes(b"x")
    before = fingerprint.of_file(tmp_path / "scene")
    assert fingerprint.of_file(tmp_path / "scene") == before
    (tmp_path / "scene/B03.tif").write_bytes(b"x")
    assert fingerprint.of_file(tmp_path / "scene") != before


def test_a_model_changes_with_its_name_and_the_ends_of_large_files(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(5 << 20))
    before = fingerprint.of_model(tmp_path, "m")
    assert fingerprint.of_model(tmp_path, "m") == before != fingerprint.of_model(tmp_path, "n")
    path.write_bytes(bytes((5 << 20) - 1) + b"\1")
    assert fingerprint.of_model(tmp_path, "m") != before

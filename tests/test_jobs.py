"""One resumable job: claimed, resumed, refused, discarded, finished."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhrs import fingerprint
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.jobs import Job


def _square(block):
    return pa.table({"value": [block**2]})


def _fail_at_two(block):
    if block == 2:
        raise DataError("block 2 is broken.")
    return _square(block)


def test_parts_are_kept_when_a_job_is_resumed(tmp_path):
    out, calls = tmp_path / "out", []
    with pytest.raises(DataError), Job(out, {"size": 1}) as job:
        job.map_blocks([0, 1, 2, 3], _fail_at_two)
    with Job(out, {"size": 1}) as resumed:
        parts = resumed.map_blocks([0, 1, 2, 3], lambda block: calls.append(block) or _square(block))
        assert calls == [2, 3] and resumed.started_at == job.started_at
        assert [pq.read_table(part)["value"][0].as_py() for part in parts] == [0, 1, 4, 9]
        resumed.finish()
    assert list(out.iterdir()) == []


def test_every_executor_gives_the_same_parts_and_counts_them(tmp_path):
    contents = []
    counts = []

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def update(self, n=1):
            counts.append(n)

    for name, num_workers in (("one", 1), ("two", 2)):
        job = Job(tmp_path / name, {})
        parts = job.map_blocks(
            list(range(7)), _square, num_workers=num_workers, progress=lambda description, total=None: Bar()
        )
        contents.append([part.read_bytes() for part in parts])
        assert sum(counts) == 7
        counts.clear()
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("config", "inputs", "line"),
    [
        ({"size": 2, "seed": 0}, {"a/x.tif": "1"}, r"with other settings \(size: 1 before, 2 now\); name another"),
        ({"size": 1}, {"a/x.tif": "1"}, r"with other settings \(seed: 0 before, None now\)"),
        ({"size": 1, "seed": 0}, {"a/x.tif": "2"}, r"on other inputs: 1 file was changed \(x.tif\); name another"),
        ({"size": 1, "seed": 0}, {}, r"on other inputs: 1 file was removed \(x.tif\)"),
    ],
)
def test_another_job_is_refused_with_what_changed(tmp_path, config, inputs, line):
    out = tmp_path / "out"
    Job(out, {"size": 1, "seed": 0}, {"a/x.tif": "1"})
    record = (out / ".work/job.json").read_bytes()
    with pytest.raises(ConfigError, match=line):
        Job(out, config, inputs)
    assert (out / ".work/job.json").read_bytes() == record


def test_changed_files_are_refused(tmp_path):
    image = tmp_path / "image.tif"
    image.write_bytes(b"one")
    Job(tmp_path / "out", {}, fingerprint.of_files([image]))
    Job(tmp_path / "out", {}, fingerprint.of_files([image]))
    image.write_bytes(b"other")
    with pytest.raises(ConfigError, match=r"1 file was changed \(image.tif\)"):
        Job(tmp_path / "out", {}, fingerprint.of_files([image]))


def test_a_job_resumes_on_restored_files(tmp_path):
    image = tmp_path / "image.tif"
    image.write_bytes(b"one")
    first = Job(tmp_path / "out", {}, fingerprint.of_files([image]))
    os.utime(image, ns=(1, 1))
    assert Job(tmp_path / "out", {}, fingerprint.of_files([image])).fingerprint == first.fingerprint


def test_a_directory_with_other_things_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        Job(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_job_that_fails_before_its_first_part_leaves_nothing(tmp_path, exists):
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with pytest.raises(DataError), Job(out, {}) as job:
        (out / "images").mkdir()
        job.map_blocks([2], _fail_at_two)
    assert out.exists() == exists and not list(tmp_path.rglob("*.*"))
    Job(out, {"other": 1})


def test_the_manifest_counts_what_was_left_out(tmp_path):
    dropped = Dropped()
    dropped.add("broken images", "a.png", 2)
    with Job(tmp_path / "out", {}) as job:
        manifest = job.write_manifest({"rows": 3}, dropped)
        job.finish()
    assert manifest == {"rows": 3, "dropped": {"broken images": 2}}
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest

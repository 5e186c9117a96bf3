"""Downloads: resumed, verified, atomic, one line for each failure."""

import errno
import hashlib
import io
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.hub import Hub

from lhrs.data import fetch as fetching
from lhrs.data.archives import group_pieces, is_archive, unpack
from lhrs.data.fetch import check_space, fetch
from lhrs.errors import DataError
from lhrs.fingerprint import checksum_of_file

BODY = bytes(range(256)) * 4000


@pytest.fixture
def hub(tmp_path):
    (tmp_path / "served/files").mkdir(parents=True)
    (tmp_path / "served/files/a.bin").write_bytes(BODY)
    hub = Hub(tmp_path / "served")
    yield hub
    hub.server.shutdown()


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def test_a_file_is_downloaded_once_and_verified(hub, tmp_path):
    path = tmp_path / "out/a.bin"
    assert fetch(f"{hub.url}/files/a.bin", path, size=len(BODY), checksum=sha256(BODY)) == path
    assert path.read_bytes() == BODY and [file.name for file in path.parent.iterdir()] == ["a.bin"]
    fetch(f"{hub.url}/files/a.bin", path, size=len(BODY), checksum=sha256(BODY))
    assert len(hub.asked) == 1


def test_a_connection_that_breaks_off_is_continued_where_it_stopped(hub, tmp_path):
    hub.breaks["a.bin"] = [300_000, 200_000]
    fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", checksum=sha256(BODY), wait_s=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert [asked for _, asked in hub.asked] == [None, "bytes=300000-", "bytes=500000-"]


def test_a_stopped_download_is_continued_by_the_next_call(hub, tmp_path, monkeypatch):
    hub.breaks["a.bin"] = [300_000] + [0] * 5
    with pytest.raises(DataError, match=r"broke off: .* What arrived is kept"):
        fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", wait_s=0)
    assert not (tmp_path / "a.bin").exists() and (tmp_path / "a.bin.part").stat().st_size == 300_000
    hub.asked.clear()
    fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", checksum=sha256(BODY), wait_s=0)
    assert [asked for _, asked in hub.asked] == ["bytes=300000-"] and (tmp_path / "a.bin").read_bytes() == BODY


def test_another_version_is_not_appended_to_the_first(hub, tmp_path):
    hub.breaks["a.bin"] = [300_000] + [0] * 5
    with pytest.raises(DataError):
        fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", wait_s=0)
    (hub.folder / "files/a.bin").write_bytes(BODY[::-1])
    fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", wait_s=0)
    assert (tmp_path / "a.bin").read_bytes() == BODY[::-1]


def test_a_wrong_checksum_is_one_line_and_leaves_no_file(hub, tmp_path):
    with pytest.raises(DataError, match=r"a\.bin has the checksum md5:\w{32}, but md5:0{32} is published"):
        fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", checksum="md5:" + "0" * 32)
    assert [path.name for path in tmp_path.iterdir() if path.is_file() and path.suffix != ".etag"] == []


def test_a_missing_file_and_a_wrong_size_are_one_line(hub, tmp_path):
    with pytest.raises(DataError, match=r"files/b\.bin cannot be downloaded: HTTP 404"):
        fetch(f"{hub.url}/files/b.bin", tmp_path / "b.bin")
    with pytest.raises(DataError, match=r"has 1,024,000 bytes, but 5 were announced"):
        fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", size=5)
    with pytest.raises(DataError, match=r"broke off: .*refused"):
        fetch("http://127.0.0.1:9/a", tmp_path / "c.bin", wait_s=0)


def test_a_fault_that_passes_is_tried_again(hub, tmp_path, monkeypatch):
    hub.status["a.bin"] = 503
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: hub.status.clear())
    fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY and len(hub.asked) == 2


def test_a_full_disk_is_one_line_and_what_arrived_is_kept(hub, tmp_path, monkeypatch):
    opened = Path.open

    class Full(io.FileIO):
        def write(self, data):
            if self.tell():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(bytes(data)[:1000])

    def open_full(self, mode="r", *words, **named):
        return Full(self, mode) if self.suffix == ".part" and mode in ("ab", "wb") else opened(self, mode)

    monkeypatch.setattr(fetching, "_CHUNK_BYTES", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(DataError, match=r"a\.bin cannot be written: No space left on device\. What arrived is"):
            fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").stat().st_size == 1000
    fetch(f"{hub.url}/files/a.bin", tmp_path / "a.bin", checksum=sha256(BODY))
    assert hub.asked[-1][1] == "bytes=1000-"


def test_a_disk_that_is_too_small_is_told_before(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage(10, 5, 2_000_000_000))
    check_space(tmp_path / "new/folder", 1_000_000_000)
    with pytest.raises(DataError, match=r"needs 3\.0 GB, but the disk has 2\.0 GB left: set LHRS_DATA"):
        check_space(tmp_path / "new/folder", 3_000_000_000)


def test_credentials_stay_with_their_host(hub, tmp_path):
    redirects = fetching._Redirects()
    request = fetching.urllib.request.Request(
        "https://a.org/x", headers={"Authorization": "Bearer x", "Range": "bytes=1-"}
    )
    there = redirects.redirect_request(request, None, 302, "", {}, "https://b.org/y")
    here = redirects.redirect_request(request, None, 302, "", {}, "https://a.org/y")
    assert not there.has_header("Authorization") and there.has_header("Range") and here.has_header("Authorization")


@settings(deadline=None)
@given(body=st.binary(max_size=3000))
def test_git_names_a_blob_as_git_does(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("blob") / "x"
    path.write_bytes(body)
    named = hashlib.sha1(b"blob %d" % len(body) + bytes(1) + body).hexdigest()
    assert checksum_of_file(path, "git-sha1") == f"git-sha1:{named}"


@settings(deadline=None)
@given(data=st.data())
def test_a_tar_file_in_pieces_is_unpacked_as_one(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tar")
    contents = {f"f{n}.bin": body for n, body in enumerate(data.draw(st.lists(st.binary(max_size=500), min_size=1)))}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, body in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    whole = packed.getvalue()
    cut = data.draw(st.integers(0, len(whole)))
    names = ["t.tar.gzaa", "t.tar.gzab"]
    for name, body in zip(names, (whole[:cut], whole[cut:]), strict=True):
        (folder / name).write_bytes(body)
    assert group_pieces([*reversed(names), "z.zip"]) == [names, ["z.zip"]] and all(map(is_archive, names))
    unpack([folder / name for name in names], folder / "out")
    assert {p.name: p.read_bytes() for p in (folder / "out").iterdir()} == contents


def test_an_archive_stays_in_its_folder_and_a_broken_one_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    unpack([tmp_path / "a.zip"], tmp_path / "in/out")
    assert (tmp_path / "in/out/evil.txt").exists() and not (tmp_path / "in/evil.txt").exists()
    for name in ("b.zip", "b.tar.gz"):
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(DataError, match=f"{name} cannot be unpacked"):
            unpack([tmp_path / name], tmp_path / "broken")

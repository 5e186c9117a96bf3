"""Benchmarks that download themselves, from servers that stand in for the real ones: only the transport is a fake."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.data.hub import Hub
from tests.evaluation.bench import lhrs_bench, picture
from tests.training.tiny import SRC

from lhrs.data import download
from lhrs.data.download import DoiSource, HubSource, LibrarySource, download_if_missing
from lhrs.errors import DataError, MissingExtraError
from lhrs.evaluation.benchmark import benchmark_names, find_benchmark

COMMIT = "a" * 40


def blob_id(body):
    """Return git's name of a file's content, by which the hub names small files."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def serve(answer):
    """Start a server; `answer(path)` gives (status, headers, body), and is told every path that is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answer(self.path.partition("?")[0])
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LHRS_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hub(tmp_path):
    """A hub with one data set, as huggingface_hub asks for it; gives its URL and the paths it was asked for."""
    data = tmp_path / "hub"
    lhrs_bench(data / "LHRS-Bench", 9)
    (data / "Stage1.json").write_text("not wanted")
    asked = []

    def answer(path):
        asked.append(path)
        files = {p.relative_to(data).as_posix(): p.read_bytes() for p in data.rglob("*") if p.is_file()}
        if "/tree/" in path:
            listed = [{"type": "file", "path": name, "size": len(body), "oid": blob_id(body)}
                      for name, body in files.items()]  # fmt: skip
            return 200, {"Content-Type": "application/json"}, json.dumps(listed).encode()
        if path.startswith("/api/"):
            found = {"id": "PumpkinCat/LHRS_Data", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return 200, {"Content-Type": "application/json"}, json.dumps(found).encode()
        body = files.get(path.partition(f"/resolve/{COMMIT}/")[2])
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body

    server, url = serve(answer)
    yield url, asked
    server.shutdown()


def evaluate(home, url, *words):
    env = {**os.environ, "PYTHONPATH": str(SRC), "LHRS_DATA": str(home), "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0",
           "HF_HOME": str(home.parent / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    command = [sys.executable, "-m", "lhrs", "eval", *map(str, words), "--no-baselines"]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


def test_a_benchmark_from_the_hub_is_downloaded_once(hub, home, tmp_path):
    pytest.importorskip("huggingface_hub")
    url, asked = hub
    first = evaluate(home, url, "lhrs-bench", "--out", tmp_path / "one")
    assert first.returncode == 0, first.stderr
    folder = home / "PumpkinCat--LHRS_Data"
    assert (folder / "LHRS-Bench/qa.json").exists() and not (folder / "Stage1.json").exists()
    assert not any("Stage1" in path for path in asked)
    asked.clear()
    second = evaluate(home, url, "lhrs-bench", "--out", tmp_path / "two")
    assert second.returncode == 0 and not asked
    scores = [json.loads((tmp_path / n / "scores.json").read_text())["results"][0] for n in ("one", "two")]
    assert scores[0] == scores[1] and scores[0]["n"] == 9


def test_a_failed_download_is_one_line_and_leaves_nothing(home, tmp_path):
    pytest.importorskip("huggingface_hub")
    server, url = serve(lambda path: (404, {"X-Error-Code": "RepoNotFound"}, b""))
    done = evaluate(home, url, "lhrs-bench", "--out", tmp_path / "out")
    server.shutdown()
    lines = [line for line in done.stderr.splitlines() if line.startswith("lhrs: ")]
    assert done.returncode == 2 and len(lines) == 1 and "could not be downloaded" in lines[0], done.stderr
    assert "Traceback" not in done.stderr
    assert not list(home.iterdir()) and not (tmp_path / "out").exists()


def test_archives_from_the_hub_are_unpacked(tmp_path, home, monkeypatch):
    constants = pytest.importorskip("huggingface_hub").constants
    data = tmp_path / "served/datasets/xiang709/VRSBench"
    data.mkdir(parents=True)
    (data / "VRSBench_EVAL_vqa.json").write_text("[]")
    (data / "Images_train.zip").write_bytes(b"not asked for")
    with zipfile.ZipFile(data / "Images_val.zip", "w") as archive:
        archive.writestr("Images_val/P1.png", "x")
        archive.writestr("../evil.png", "x")
    server = Hub(tmp_path / "served")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    root = find_benchmark("vrsbench-vqa").fetch()
    server.server.shutdown()
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) == [
        "Images_val/P1.png", "VRSBench_EVAL_vqa.json", "evil.png"
    ]  # fmt: skip
    assert root == find_benchmark("vrsbench-caption").fetch()  # one download for its three tasks


def test_torchgeo_downloads_and_checks(tmp_path, home, monkeypatch):
    datasets = pytest.importorskip("torchgeo.datasets")
    for n in range(21):
        picture(tmp_path / f"src/UCMerced_LandUse/Images/class{n}/class{n}00.tif", (8, 8))
    made = tmp_path / "src/UCMerced_LandUse.zip"
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted((tmp_path / "src/UCMerced_LandUse").rglob("*.tif")):
            archive.write(path, path.relative_to(tmp_path / "src").as_posix())
    for name in datasets.UCMerced.split_filenames.values():
        (tmp_path / "src" / name).write_text("".join(f"class{n}00.tif\n" for n in range(21)))
    server, url = serve(lambda path: (200, {}, (tmp_path / "src" / path[1:]).read_bytes()))
    monkeypatch.setattr(datasets.UCMerced, "url", f"{url}/")
    for kind in ("md5", "sha256"):  # torchgeo before and after 0.10
        sums = {split: hashlib.new(kind, (tmp_path / "src" / name).read_bytes()).hexdigest()
                for split, name in datasets.UCMerced.split_filenames.items()}  # fmt: skip
        monkeypatch.setattr(datasets.UCMerced, f"split_{kind}s", sums, raising=False)
    with pytest.raises(DataError, match="UCMerced could not be downloaded"):  # not the archive that torchgeo knows
        find_benchmark("ucmerced").fetch()
    assert not list(home.iterdir())
    for kind in ("md5", "sha256"):
        monkeypatch.setattr(datasets.UCMerced, kind, hashlib.new(kind, made.read_bytes()).hexdigest(), raising=False)
    benchmark = find_benchmark("ucmerced")
    assert len(benchmark(benchmark.fetch()).items()) == 21
    server.shutdown()
    assert len(benchmark(benchmark.fetch()).items()) == 21  # from the folder


def test_a_zenodo_record_is_downloaded_and_checked(tmp_path, home, monkeypatch):
    pooch = pytest.importorskip("pooch")
    files = {"LR_split_test_questions.json": b"{}"}
    with zipfile.ZipFile(tmp_path / "Images_LR.zip", "w") as archive:
        archive.writestr("Images_LR/0.tif", "x")
    (tmp_path / "1.tif").write_bytes(b"x")
    with tarfile.open(tmp_path / "Images.tar", "w") as packed:
        packed.add(tmp_path / "1.tif", "Data/1.tif")
    for name in ("Images_LR.zip", "Images.tar"):
        files[name] = (tmp_path / name).read_bytes()
    sums = {name: f"md5:{hashlib.md5(body).hexdigest()}" for name, body in files.items()}

    def answer(path):
        if path.startswith("/api/records/"):
            listed = [{"key": n, "checksum": sums[n], "links": {"self": f"{url}/files/{n}"}} for n in files]
            return 200, {}, json.dumps({"id": 6344334, "files": listed}).encode()
        return 200, {}, files[path.rpartition("/")[2]]

    server, url = serve(answer)
    monkeypatch.setattr(pooch.downloaders, "doi_to_url", lambda doi, **words: f"https://zenodo.org/records/{doi[-7:]}")
    monkeypatch.setattr(pooch.downloaders.ZenodoRepository, "base_api_url", f"{url}/api/records")
    good = sums["Images_LR.zip"]
    sums["Images_LR.zip"] = f"md5:{'0' * 32}"
    with pytest.raises(DataError, match=r"Images_LR\.zip has the checksum md5:\w+, but md5:0+ is published"):
        find_benchmark("rsvqa-lr").fetch()
    sums["Images_LR.zip"] = good
    root = find_benchmark("rsvqa-lr").fetch()
    server.shutdown()
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) == [
        "Data/1.tif", "Images_LR/0.tif", "LR_split_test_questions.json"
    ]  # fmt: skip


def test_a_missing_extra_is_said(home, monkeypatch):
    monkeypatch.setattr(download, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    for source in (HubSource("a/b"), LibrarySource("torchgeo.datasets", "X", ""), DoiSource("10.1/x")):
        with pytest.raises(MissingExtraError, match=r"downloading needs \w+: pip install 'lhrs\[bench\]', or name"):
            download_if_missing(source)
    assert not list(home.iterdir())


def test_every_source_is_one_that_can_be_asked():
    sources = {name: find_benchmark(name).source for name in benchmark_names()}
    assert {name for name, source in sources.items() if source is not None} == {
        "eurosat", "geobench-vlm", "levir-cc", "lhrs-bench", "omniearth", "resisc45", "rsvqa-hr", "rsvqa-lr",
        "ucmerced", "vhm-honesty", "vrsbench-caption", "vrsbench-referring", "vrsbench-vqa", "xlrs-caption",
        "xlrs-grounding", "xlrs-lite",
    }  # fmt: skip
    for source in filter(None, sources.values()):
        assert Path(source.folder).name == source.folder and not Path(source.root).is_absolute()
        if isinstance(source, LibrarySource):
            module = pytest.importorskip(source.module)
            assert hasattr(module, source.name)

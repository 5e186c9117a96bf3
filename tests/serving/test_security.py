import asyncio
import http.server
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import httpx2 as httpx
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from tests.serving.conftest import RIVER, picture, refusal, running, said

from lhrs.errors import ConfigError
from lhrs.serving.errors import APIError
from lhrs.serving.server import check
from lhrs.serving.settings import Settings
from lhrs.serving.url_fetch import URLFetcher, is_public

KEYS = ("a" * 24, "b" * 24)


def test_keys(assistant):
    with running(assistant, keys=KEYS) as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEYS[0]}"}):
            for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/files/file-0"):
                refusal(server.http.get(path, headers=headers), 401)
            refusal(server.ask("x", headers=headers), 401)
        assert server.http.get("/health").json()["status"] == "ok"
        first, second = (server.client(key) for key in KEYS)
        file = first.files.create(file=RIVER.open("rb"), purpose="vision")
        assert [f.id for f in first.files.list()] == [file.id] and not list(second.files.list())
        bearer = [{"authorization": f"Bearer {key}"} for key in KEYS]
        question = [{"type": "file", "file": {"file_id": file.id}}, said("is there a river?")]
        for path in (f"/v1/files/{file.id}", f"/v1/files/{file.id}/preview"):
            assert server.http.get(path, headers=bearer[0]).status_code == 200
            refusal(server.http.get(path, headers=bearer[1]), 404)
        refusal(server.http.delete(f"/v1/files/{file.id}", headers=bearer[1]), 404)
        refusal(server.ask(question, headers=bearer[1]), 404)
        assert server.ask(question, headers=bearer[0]).status_code == 200


def test_everyone_is_answered_only_on_purpose():
    with pytest.raises(ConfigError, match="--no-auth"):
        check(Settings(host="0.0.0.0"), no_auth=False)
    check(Settings(host="0.0.0.0"), no_auth=True)
    check(Settings(host="0.0.0.0", keys=KEYS), no_auth=False)
    check(Settings(), no_auth=False)


def test_pages_of_other_sites_may_not_ask(server):
    refusal(server.ask("x", headers={"origin": "https://evil.example"}), 403)
    refusal(server.ask("x", headers={"host": "evil.example"}), 403)
    done = server.ask("hello", headers={"origin": server.url})
    assert done.status_code == 200 and "access-control-allow-origin" not in done.headers


def test_size_limits(assistant):
    with running(assistant, max_body=200_000, max_images=2) as server:
        refusal(server.ask([picture(bytes(300_000)), said("x")]), 413)
        body = {"content": iter([bytes(100_000)] * 5), "headers": {"content-type": "application/json"}}
        refusal(server.http.post("/v1/chat/completions", **body), 413)  # chunked: its size is not announced
        small = picture(png(8, 8))
        assert refusal(server.ask([small, small, small, said("x")]))["code"] == "too_many_images"
        with socket.create_connection(("127.0.0.1", server.port)) as flood:
            flood.sendall(b"GET /health HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 900) for n in range(200)))
            assert flood.recv(100).startswith(b"HTTP/1.1 400")
        assert server.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "url",
    ["/etc/passwd", "file:///etc/passwd", "../river.tif", "ftp://example.org/a.png", "gopher://x", "data:,x", "",
     "data:image/png;base64,!!!", "http://127.0.0.1:1/a.png", "http://[::1]/a.png", "http://169.254.169.254/latest/"],
)  # fmt: skip
def test_images_come_from_nowhere_else(server, url):
    refusal(server.ask([{"type": "image_url", "image_url": {"url": url}}, said("x")]))


@pytest.mark.parametrize("path", ["..%2f..%2fetc%2fpasswd", "../../etc/passwd", "%2e%2e/x", "file-../../x", "file-%00"])
def test_ids_are_no_paths(server, path):
    for url in (f"/v1/files/{path}", f"/v1/files/{path}/preview"):
        assert httpx.get(httpx.URL(server.url).copy_with(raw_path=url.encode())).status_code == 404
    refusal(server.ask([{"type": "file", "file": {"file_id": path}}, said("x")]), 404)


def test_addresses_of_the_inside():
    inside = """127.0.0.1 127.9.9.9
        0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 240.0.0.1
        255.255.255.255 192.0.2.1 198.18.0.1 ::1 :: ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1 fe80::1 fe80::1%eth0
        fc00::1 fd00:ec2::254 fec0::1 ff02::1 2001:db8::1 2002:7f00:1::1 64:ff9b::7f00:1 2001:0:53aa:64c::1 localhost"""
    assert [a for a in inside.split() if is_public(a)] == []
    assert all(map(is_public, ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8"]))


@pytest.fixture
def site():
    """A web site on this machine: an image, a redirect to it, an endless and a slow body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append((self.path, self.headers["host"]))
            self.send_response(302 if self.path == "/away" else 200)
            if self.path == "/away":
                self.send_header("location", f"http://127.0.0.1:{port}/image")
            self.end_headers()
            if self.path == "/image":
                self.wfile.write(RIVER.read_bytes())
            for _ in range(1000 if self.path in ("/endless", "/slow") else 0):
                try:
                    self.wfile.write(bytes(10_000))
                except OSError:
                    return
                time.sleep(0.2 if self.path == "/slow" else 0)

        def log_message(self, *args):
            pass

    hits: list[tuple[str, str]] = []
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = web.server_port
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield port, hits
    web.shutdown()


def fetch(fetcher, url):
    return asyncio.run(fetcher.get(url))


def test_a_name_is_resolved_once_and_the_address_checked(site):
    port, hits = site
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    asked: list[str] = []

    async def resolve(host, port):
        asked.append(host)
        return next(answers)

    hosts = [f"images.example:{port}"]
    checked = URLFetcher(hosts, 1_000_000, 5, resolve, allowed=lambda address: address == "127.0.0.1")
    assert fetch(checked, f"http://images.example:{port}/image") == RIVER.read_bytes()
    assert asked == ["images.example"] and hits == [("/image", f"images.example:{port}")]
    with pytest.raises(APIError, match="not on the open internet"):  # the next answer of the resolver is checked anew
        fetch(checked, f"http://images.example:{port}/image")

    async def both(host, port):
        return ["93.184.216.34", "127.0.0.1"]

    with pytest.raises(APIError, match="not on the open internet"):
        fetch(URLFetcher(hosts, 1_000_000, 5, both), f"http://images.example:{port}/image")
    with pytest.raises(APIError, match="not on the open internet"):
        fetch(URLFetcher([f"localhost:{port}"], 1_000_000, 5), f"http://localhost:{port}/image")
    assert len(hits) == 1


def test_redirects_sizes_times_and_hosts(site):
    port, hits = site

    async def here(host, port):
        return ["127.0.0.1"]

    fetcher = URLFetcher([f"*.example:{port}"], 1_000_000, 1, here, allowed=lambda address: True)
    for path, reason in (("away", "answered 302"), ("endless", "more than"), ("slow", "too slow")):
        with pytest.raises(APIError, match=reason):
            fetch(fetcher, f"http://a.example:{port}/{path}")
    assert [path for path, _ in hits] == ["/away", "/endless", "/slow"]
    for url in (
        f"http://example.org:{port}/image",
        f"http://a.example.evil.org:{port}/image",
        "http://a.example/image",
        f"http://u:p@a.example:{port}/image",
        f"http://a.example:{port}\r\nx: y/image",
        "http://[::1/",
        "http://a.exämple/",
    ):
        with pytest.raises(APIError):
            fetch(fetcher, url)
    assert len(hits) == 3


def png(width: int, height: int, depth: int = 8, rows: int | None = None) -> bytes:
    """A gray PNG of zeros; with `rows` fewer than it claims."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + width * depth // 8)
    data = b"".join(packer.compress(line) for _ in range(height if rows is None else rows)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(width: int, height: int, count: int = 1) -> bytes:
    with rasterio.MemoryFile() as file:
        options = {
            "driver": "GTiff",
            "count": count,
            "dtype": "uint8",
            "tiled": True,
            "sparse_ok": True,
            "bigtiff": "yes",
        }
        with file.open(width=width, height=height, **options):
            pass
        return file.read()


def jpeg2000(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (64, 64)).save(out, "JPEG2000", no_jp2=False)
    data = bytearray(out.getvalue())
    for marker, at in ((b"ihdr", 4), (b"\xff\x51", 6)):
        start = data.index(marker) + at
        first, second = (height, width) if marker == b"ihdr" else (width, height)
        data[start : start + 8] = struct.pack(">II", first, second)
    return bytes(data)


def jpeg(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (64, 64)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


VRT = """<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize(
    "make",
    [
        lambda: png(300_000, 300_000, rows=10),
        lambda: png(60_000, 60_000, 16, rows=10),
        lambda: png(12_000, 12_000),  # honest, 144 million pixels in 140 KB
        lambda: jpeg(65_000, 65_000),
        lambda: tiff(320_000, 320_000),
        lambda: jpeg2000(320_000, 320_000),
        lambda: VRT.format(RIVER.resolve()).encode(),
        lambda: VRT.format("/vsicurl/http://127.0.0.1:1/x.tif").encode(),
        lambda: b"<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1/</ServerUrl></Service></GDAL_WMS>",
        lambda: b"%PDF-1.4\n",
        lambda: b"",
    ],
    ids=["png", "png16", "honest-png", "jpeg", "tiff", "jp2", "vrt", "vrt-url", "wms", "pdf", "empty"],
)
def test_bombs_and_formats_that_refer_to_others(server, make):
    image = picture(make())
    begun = time.monotonic()
    assert refusal(server.ask([image, said("x")]))["code"] in ("invalid_image", "invalid_image_url")
    assert time.monotonic() - begun < 8
    assert server.ask([picture(RIVER), said("is there a river?")]).status_code == 200


def test_a_geotiff_that_names_another_file_as_its_overview(server, tmp_path):
    secret, image = tmp_path / "secret.tif", tmp_path / "image.tif"
    for path, side, value in ((secret, 1024, 255), (image, 4096, 10)):
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=side,
            height=side,
            count=1,
            dtype="uint8",
            transform=from_origin(0, 1, 1, 1),
        ) as dataset:
            dataset.write(np.full((1, side, side), value, np.uint8))
            if path == image:
                dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(secret))
    assert "refers to another file" in refusal(server.ask([picture(image), said("x")]))["message"]


def test_an_image_that_takes_too_long_ends_its_process_and_nothing_else(assistant):
    """Six bands of 1.9 billion pixels that are read from nothing but zeros: seconds."""
    slow = picture(tiff(43_000, 43_000, 6))
    with running(assistant, decode_s=1.0, max_pixels=4_000_000_000) as server:
        server.ask([picture(RIVER), said("is there a river?")])
        before = server.service.image_workers._all.copy()
        assert "too long" in refusal(server.ask([slow, said("x")]))["message"]
        assert server.service.image_workers._all != before
        assert server.ask([picture(RIVER), said("is there a river?")]).status_code == 200


def test_logs_tell_no_secrets_and_sigterm_loses_no_answer(tmp_path, nano):
    keys = tmp_path / "keys"
    keys.write_text("\n".join(KEYS))
    log = tmp_path / "log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["src", os.environ.get("PYTHONPATH", "")])}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "lhrs", "serve", "--port", "0", "--api-key-file", keys, "--model", nano],
            stderr=stderr,
            env=environment,
        )
    try:
        while not (lines := log.read_text().splitlines()):
            assert process.poll() is None
            time.sleep(0.05)
        url = json.loads(lines[0])["url"]
        headers = {"authorization": f"Bearer {KEYS[0]}", "x-request-id": "mine"}
        content = [picture(RIVER), said("the secret question")]
        body = {"model": nano.name, "messages": [{"role": "user", "content": content}]}
        statuses: list[int] = []

        def ask():
            while not stop.is_set():
                try:
                    done = httpx.post(f"{url}/chat/completions", json=body, headers=headers, timeout=30)
                except httpx.ConnectError:
                    return  # the server has ended
                statuses.append(done.status_code)
                if done.status_code == 200:
                    assert done.headers["x-request-id"] == "mine"

        stop = threading.Event()
        threads = [threading.Thread(target=ask) for _ in range(6)]
        [t.start() for t in threads]
        while len(statuses) < 12:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        stop.set()
        [t.join() for t in threads]
    finally:
        process.kill()
    assert set(statuses) <= {200, 503} and statuses.count(200) >= 12
    text = log.read_text()
    assert all(json.loads(line) for line in text.splitlines())
    assert '"request_id": "mine"' in text and "secret question" not in text and not any(key in text for key in KEYS)
    assert "base64" not in text

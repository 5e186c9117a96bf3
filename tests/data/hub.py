"""A server with the layout of the Hugging Face hub and of Zenodo, which can break off."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class Hub:
    """Serves `datasets/OWNER/NAME/...`, `models/OWNER/NAME/...`, `records/ID/...` and `files/...` of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []
        """Paths that were asked for, with the range."""
        self.breaks: dict[str, list[int]] = {}
        """For the end of a path, the bytes after which each of the next answers breaks off."""
        self.versions: dict[str, str] = {}
        """For the end of a path, another ETag than that of the content."""
        self.status: dict[str, int] = {}
        """For the end of a path, an error to answer with."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.answer(self)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append((path, request.headers.get("Range")))
        ending = next((end for end in self.status if path.endswith(end)), None)
        if ending is not None:
            send(request, self.status[ending], {}, b"")
        elif path.startswith("/api/records/"):
            record = path.removeprefix("/api/records/")
            names = sorted(file.name for file in (self.folder / "records" / record).iterdir())
            listed = [
                {"key": name, "checksum": f"md5:{self.md5(f'records/{record}/{name}')}",
                 "links": {"self": f"{self.url}/records/{record}/{name}"}} for name in names
            ]  # fmt: skip
            send(request, 200, {}, json.dumps({"id": int(record), "files": listed}).encode())
        elif path.startswith("/api/"):
            self.list_repo(request, path)
        else:
            self.send_file(request, path)

    def list_repo(self, request: BaseHTTPRequestHandler, path: str) -> None:
        kind, owner, name, *rest = path.removeprefix("/api/").split("/")
        repo = self.folder / kind / owner / name
        if not repo.is_dir():
            send(request, 404, {"X-Error-Code": "RepoNotFound"}, b"")
            return
        files = sorted(file for file in repo.rglob("*") if file.is_file())
        if rest[:1] == ["tree"]:
            entries = []
            for file in files:
                body, relative = file.read_bytes(), file.relative_to(repo).as_posix()
                entry = {"type": "file", "path": relative, "size": len(body),
                         "oid": hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()}  # fmt: skip
                if file.suffix != ".json":
                    entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 130}
                entries.append(entry)
            send(request, 200, {}, json.dumps(entries).encode())
        else:
            found = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]}
            send(request, 200, {}, json.dumps(found).encode())

    def send_file(self, request: BaseHTTPRequestHandler, path: str) -> None:
        before, resolve, after = path.strip("/").partition("/resolve/")
        place = path.strip("/")
        if resolve:
            place = f"{before if before.startswith('datasets/') else f'models/{before}'}/{after.partition('/')[2]}"
        file = self.folder / place
        if not file.is_file():
            send(request, 404, {"X-Error-Code": "EntryNotFound"}, b"")
            return
        body = file.read_bytes()
        tag = f'"{next((tag for end, tag in self.versions.items() if path.endswith(end)), self.md5(place))}"'
        headers, status = {"ETag": tag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, 200
        asked, condition = request.headers.get("Range"), request.headers.get("If-Range")
        if asked and condition in (None, tag):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"], status = f"bytes {start}-{len(body) - 1}/{len(body)}", 206
            body = body[start:]
        cuts = next((cuts for end, cuts in self.breaks.items() if path.endswith(end)), [])
        send(request, status, headers, body, cuts.pop(0) if cuts and request.command == "GET" else None)

    def md5(self, place: str) -> str:
        return hashlib.md5((self.folder / place).read_bytes()).hexdigest()


def send(request: BaseHTTPRequestHandler, status: int, headers: dict, body: bytes, cut: int | None = None) -> None:
    request.send_response(status)
    for key, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(body[:cut])
    if cut is not None:
        request.wfile.flush()
        request.close_connection = True

"""A real server on a free port, and the official client."""

import base64
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("python_multipart")
openai = pytest.importorskip("openai")
import httpx2 as httpx  # noqa: E402 (of the dev group: without it no server test may be skipped)
from tests.embedded import EMBEDDED_FOLDER  # noqa: E402

from lhrs.inference.load import load  # noqa: E402
from lhrs.serving.server import Server  # noqa: E402
from lhrs.serving.service import Service  # noqa: E402
from lhrs.serving.settings import Settings  # noqa: E402

RIVER = Path(__file__).parents[2] / "examples/river.tif"


class Running:
    """A server in a thread."""

    def __init__(self, assistant, settings: Settings) -> None:
        self.service = Service(assistant, settings)
        self.server = Server(self.service)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.model = assistant.runtime.name
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def client(self, key: str = "none"):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def ask(self, content, **body) -> "httpx.Response":
        messages = body.pop("messages", [{"role": "user", "content": content}])
        headers = body.pop("headers", {})
        return self.http.post(
            "/v1/chat/completions", json={"model": self.model, "messages": messages, **body}, headers=headers
        )


@contextmanager
def running(assistant, **settings):
    found = Running(assistant, replace(Settings(port=0, image_workers=1), **settings))
    try:
        yield found
    finally:
        found.http.close()
        found.server.should_exit = True
        found.thread.join(20)


@pytest.fixture(scope="session")
def assistant(nano):
    return load(nano)


@pytest.fixture(scope="session")
def writer(talker):
    """A model that writes its answers token by token."""
    return load(talker)


@pytest.fixture(scope="session")
def writing_server(writer):
    with running(writer) as found:
        yield found


@pytest.fixture(scope="session")
def asked_of(nano):
    """The setting that whole scenes are asked of the same model."""
    return {} if nano == EMBEDDED_FOLDER else {"model": str(nano)}


@pytest.fixture(scope="session")
def server(assistant, asked_of):
    with running(assistant, decode_s=5.0, max_pixels=4_000_000, **asked_of) as found:
        yield found


def picture(data: bytes | Path) -> dict:
    content = data if isinstance(data, bytes) else data.read_bytes()
    url = "data:application/octet-stream;base64," + base64.b64encode(content).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def said(text: str) -> dict:
    return {"type": "text", "text": text}


def refusal(response, status: int = 400) -> dict:
    """The error of a response, which must have OpenAI's form and be one line."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and "\n" not in error["message"]
    assert "/tmp" not in error["message"] and "Traceback" not in error["message"]
    return error

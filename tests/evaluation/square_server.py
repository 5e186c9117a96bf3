"""A real HTTP server with OpenAI's API whose model sees colored squares and writes their boxes as it is told."""

import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

COLORS = {
    "red": (220, 20, 30), "green": (20, 160, 50), "blue": (30, 60, 220), "yellow": (250, 220, 30),
    "black": (10, 10, 10), "white": (250, 250, 250),
}  # fmt: skip
Write = Callable[[np.ndarray, tuple[int, int]], str]
"""Text of a box, from xyxy fractions `(4,)` and the size of the image."""


def image_of(body: dict) -> str:
    """Return the image of a request as a data URL."""
    return next(part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url")


def pixels_of(url: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@lru_cache(maxsize=64)  # every prompt asks for the same drawings
def find_square(url: str, color: str) -> tuple[np.ndarray, tuple[int, int], int]:
    """Return the box of a color as xyxy fractions, the size of the image, and the sum of its pixels."""
    pixels = pixels_of(url)
    height, width = pixels.shape[:2]
    ys, xs = np.nonzero((pixels == COLORS[color]).all(-1))
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / [width, height, width, height]
    return box, (width, height), int(pixels.sum())


def text_of(body: dict) -> str:
    return next(part["text"] for part in body["messages"][-1]["content"] if part["type"] == "text")


def look(body: dict, noise: float) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the box of the named square as xyxy fractions with noise, and the size of the image."""
    color = re.search(r"the (\w+) square", text_of(body))[1]
    box, size, seed = find_square(image_of(body), color)
    rng = np.random.default_rng(seed + len(text_of(body)))
    return np.clip(box + rng.normal(0, noise, 4) * np.tile(box[2:] - box[:2], 2), 0, 1), size


@contextmanager
def serving(write: Write, noise: float = 0.02, name: str = "some-vl") -> Iterator[tuple[str, list[dict]]]:
    """Yield the URL of a server, and the requests that it gets.

    Args:
        write: the notation of the model.
        noise: standard deviation of a coordinate, as a fraction of the side of the square.
        name: of the model.
    """

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send({"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "us"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            bodies.append(body)
            message = {"role": "assistant", "content": write(*look(body, noise))}
            self.send({"id": "x", "created": 0, "model": name, "object": "chat.completion",
                       "choices": [{"index": 0, "finish_reason": "stop", "message": message}]})  # fmt: skip

        def send(self, what):
            data = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    bodies: list[dict] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", bodies
    finally:
        server.shutdown()
        server.server_close()

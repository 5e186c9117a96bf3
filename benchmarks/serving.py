"""Many clients against `lhrs serve`, and one: `python benchmarks/serving.py [--clients 32] [--seconds 20] [--stream]`.

Every request carries an image that no other request has. The last line of the output is JSON: answers a second of many
clients and of one, their ratio, latencies, statuses, and the memory of the server's processes before and after.
"""

import argparse
import base64
import io
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx2 as httpx
import numpy as np
import psutil
from PIL import Image

QUESTIONS = [
    "what is the land use in this image?",
    "is there a river in this image?",
    "describe the image in one sentence.",
    "how many buildings are there?",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--stream", action="store_true", help="ask for streams")
    parser.add_argument("--model", default="lhrs-nano")
    parser.add_argument("--side", type=int, default=256, help="pixels of the images")
    options = parser.parse_args()
    command = [sys.executable, "-m", "lhrs", "serve", "--port", "0", "--model", options.model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        started = json.loads(server.stderr.readline())
        logs = threading.Thread(target=lambda: [None for _ in server.stderr or ()])
        logs.start()
        try:
            load = Load(started["url"], started["model"], options.stream, options.side)
            load.run(4, 3)  # everything is loaded
            before = memory_mb(server.pid)
            one = load.run(1, max(options.seconds / 3, 5))
            many = load.run(options.clients, options.seconds)
            after = memory_mb(server.pid)
        finally:
            server.terminate()
            logs.join()
    ratio = many["answers_per_s"] / one["answers_per_s"]
    print(f"one client {one}\n{options.clients} clients {many}")
    sizes = {"memory_mb_before": before, "memory_mb_after": after, "stream": options.stream, "exit": server.returncode}
    print(json.dumps({"clients": options.clients, "one": one, "many": many, "ratio": round(ratio, 2), **sizes}))


class Load:
    def __init__(self, url: str, model: str, stream: bool, side: int) -> None:
        self.url, self.model, self.stream, self.side = f"{url}/chat/completions", model, stream, side
        self.number = 0
        self.lock = threading.Lock()

    def body(self) -> dict:
        with self.lock:
            self.number += 1
            number = self.number
        rng = np.random.default_rng(number)
        smooth = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((self.side, self.side))
        data = io.BytesIO()
        smooth.save(data, "JPEG")
        url = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}},
                   {"type": "text", "text": QUESTIONS[number % len(QUESTIONS)]}]  # fmt: skip
        return {"model": self.model, "messages": [{"role": "user", "content": content}], "stream": self.stream}

    def run(self, clients: int, seconds: float) -> dict:
        end = time.monotonic() + seconds
        statuses: Counter[str] = Counter()
        taken_s: list[float] = []

        def work() -> None:
            with httpx.Client(timeout=90) as http:
                while time.monotonic() < end:
                    body = self.body()
                    begun = time.monotonic()
                    try:
                        done = http.post(self.url, json=body)
                        status = str(done.status_code)
                        if status == "200" and self.stream and not done.text.endswith("data: [DONE]\n\n"):
                            status = "cut"
                    except httpx.HTTPError as error:
                        status = type(error).__name__
                    with self.lock:
                        statuses[status] += 1
                        if status == "200":
                            taken_s.append(time.monotonic() - begun)
                    if status == "429":
                        time.sleep(float(done.headers["retry-after"]))

        threads = [threading.Thread(target=work) for _ in range(clients)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = time.monotonic() - begun
        ranked = statistics.quantiles(taken_s, n=20)
        return {
            "answers_per_s": round(len(taken_s) / whole, 2),
            "p50_s": round(ranked[9], 3),
            "p95_s": round(ranked[18], 3),
            "statuses": dict(statuses),
        }


def memory_mb(pid: int) -> int:
    """Resident memory of a process and its children."""
    whole = psutil.Process(pid)
    return sum(p.memory_info().rss for p in [whole, *whole.children(recursive=True)]) // 2**20


if __name__ == "__main__":
    main()

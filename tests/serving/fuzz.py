"""Throw broken images and odd JSON at `lhrs serve`.

    python tests/serving/fuzz.py IMAGE_OR_FOLDER... [-n 500] [--seed 0]

Prints what came back by status, and ends with 1 if any was 5xx, the connection broke, or an error had another form than
OpenAI's. Memory of all processes of the server is told before and after.
"""

import argparse
import base64
import copy
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx2 as httpx
import psutil

ODD = [
    None,
    True,
    0,
    -1,
    2**70,
    1e308,
    "",
    "x" * 5000,
    "\u0000",
    "\ud7ff😀",
    [],
    {},
    [[]],
    {"type": "text"},
    [None],
    "null",
]

KEYS = ["tools", "n", "stream", "seed", "logprobs", "response_format", "__proto__"]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    files = [p for given in options.images for p in (sorted(given.rglob("*")) if given.is_dir() else [given])]
    pool = [p.read_bytes() for p in files if p.is_file() and p.stat().st_size < 2_000_000]
    command = [sys.executable, "-m", "lhrs", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = json.loads(server.stderr.readline())["url"]
        failures: list[str] = []
        threading.Thread(target=lambda: failures.extend(x for x in server.stderr or () if '"failed"' in x)).start()
        whole = psutil.Process(server.pid)
        memory = lambda: sum(p.memory_info().rss for p in [whole, *whole.children(recursive=True)]) // 2**20  # noqa: E731
        statuses: Counter[str] = Counter()
        bad = 0
        before = 0
        with httpx.Client(timeout=90) as http:
            for n in range(options.n):
                rng = random.Random(f"{options.seed}-{n}")
                try:
                    done = send(http, url, rng, pool)
                    status = str(done.status_code)
                    wrong = done.status_code >= 500 or (done.status_code >= 400 and set(done.json()) != {"error"})
                except (httpx.HTTPError, ValueError) as error:
                    status, wrong = type(error).__name__, True
                statuses[status] += 1
                bad += wrong
                if wrong:
                    print(f"case {n}: {status}", flush=True)
                if n == options.n // 5:
                    before = memory()
            alive = http.get(url.replace("/v1", "/health")).status_code == 200
        after = memory()
        server.terminate()
    for line in failures[:5]:
        print(line)
    fives = sum(count for status, count in statuses.items() if status.startswith("5"))
    print(json.dumps({"requests": options.n, "statuses": dict(sorted(statuses.items())), "5xx": fives, "bad": bad,
                      "alive": alive, "memory_mb_after_a_fifth": before, "memory_mb_after": after}))  # fmt: skip
    sys.exit(1 if bad or not alive else 0)


def send(http: httpx.Client, url: str, rng: random.Random, pool: list[bytes]) -> httpx.Response:
    """Send one broken thing."""
    data = mutated(rng, rng.choice(pool))
    kind = rng.random()
    if kind < 0.2:
        return http.post(f"{url}/files", files={"file": (rng.choice(["a.tif", "../x", "a\u202e.png"]), data)})
    picture = "data:image/png;base64," + base64.b64encode(data).decode()
    body: dict = {
        "model": "lhrs-nano",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}},
                                                  {"type": "text", "text": "is there a river?"}]}],
        "lhrs": rng.choice([{}, {"task": "ground", "expression": "x"}, {"bbox": [-180, -90, 180, 90]}]),
    }  # fmt: skip
    if kind < 0.6:
        return http.post(f"{url}/chat/completions", json=body)
    for _ in range(rng.randint(1, 3)):
        replace_somewhere(rng, body)
    text = json.dumps(body).encode()
    if kind > 0.9:
        text = mutated(rng, text)
    return http.post(f"{url}/chat/completions", content=text, headers={"content-type": "application/json"})


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change some bytes, preferably near the beginning where headers are; cut, repeat."""
    found = bytearray(data)
    for _ in range(rng.choice([0, 1, 1, 2, 4, 16, 64])):
        if found:
            at = min(int(rng.expovariate(1 / 200)), len(found) - 1) if rng.random() < 0.7 else rng.randrange(len(found))
            found[at] = rng.choice([0, 255, 127, 128, rng.randrange(256)])
    if rng.random() < 0.2:
        del found[rng.randrange(len(found) + 1) :]
    if rng.random() < 0.1 and found:
        at = rng.randrange(len(found))
        found[at:at] = found[at : at + rng.randrange(1, 1000)]
    return bytes(found)


def replace_somewhere(rng: random.Random, node: object) -> None:
    """Put something odd in a random place of a JSON value, or under a new key."""
    while isinstance(node, dict | list) and node:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = rng.choice(keys)
        child = node[key]
        if not isinstance(child, dict | list) or rng.random() < 0.3:
            node[key] = copy.deepcopy(rng.choice(ODD))
            if isinstance(node, dict) and rng.random() < 0.2:
                node[rng.choice(["tools", "n", "stream", "seed", "logprobs", "response_format", "__proto__"])] = (
                    copy.deepcopy(rng.choice(ODD))
                )
            return
        node = child


if __name__ == "__main__":
    main()

"""The client, against servers that speak OpenAI's API each in its own way."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import run

from lhrs.errors import ServerError
from lhrs.inference.load import load

pytest.importorskip("openai")
RIVER = Path(__file__).parents[2] / "examples/river.tif"
IMAGE = np.zeros((16, 16, 3), np.uint8)


@contextmanager
def serving(reply, refuse=lambda body: None):
    """A server; `reply` makes a message, or a whole choice, of a body, `refuse` a status, a message and a field."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send(200, {"object": "list", "data": [{"id": "some-vl", "object": "model"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            bodies.append(body)
            if (refused := refuse(body)) is not None:
                status, message, param = refused
                return self.send(status, {"error": {"message": message, "param": param, "code": None}})
            told = reply(body)
            choice = told if "message" in told else {"message": {"role": "assistant", **told}, "finish_reason": "stop"}
            about = {"id": "x", "created": 0, "model": "some-vl"}
            if not body.get("stream"):
                return self.send(200, {**about, "object": "chat.completion", "choices": [{"index": 0, **choice}]})
            text = choice["message"]["content"] or ""
            deltas = [({"content": c}, None) for c in text] + [({}, choice["finish_reason"])]
            chunks = [{**about, "object": "chat.completion.chunk",
                       "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
                      for delta, end in deltas]  # fmt: skip
            lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            return self.send(200, lines, "text/event-stream")

        def send(self, status, what, kind="application/json"):
            data = (what if isinstance(what, str) else json.dumps(what)).encode()
            self.send_response(status)
            self.send_header("content-type", kind)
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


def refuses(*fields, status=400, named=True):
    def refuse(body):
        for field in fields:
            if field in body:
                return status, f"Unsupported parameter: '{field}'" if named else "no", field if named else None
        return None

    return refuse


@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize("named", [True, False])
def test_refused_fields_are_left_out(status, named):
    fields = ("logprobs", "response_format") if not named else ("max_tokens", "temperature", "seed", "logprobs",
                                                                 "response_format")  # fmt: skip
    with serving(lambda body: {"content": "yes"}, refuses(*fields, status=status, named=named)) as (url, bodies):
        model = load(url)
        assert model.ask(IMAGE, "a river?", ["yes", "no"]).answer == "yes"
        taken = bodies[-1]
        assert not set(fields) & set(taken)
        assert taken.get("max_completion_tokens", taken.get("max_tokens")) == 112
        count = len(bodies)
        model.ask(IMAGE, "a road?", ["yes", "no"])
        assert len(bodies) == count + (1 if named else 2)  # what was named is remembered


def test_many_requests_at_once_learn_what_is_refused():
    with serving(lambda body: {"content": "3"}, refuses("max_tokens", "logprobs")) as (url, bodies):
        answers = list(load(url).count_all([IMAGE] * 24))
        assert [answer.answer for answer in answers] == ["3"] * 24
        assert all("response_format" in body for body in bodies)


def test_a_request_that_is_wrong_for_another_reason_is_refused():
    with (
        serving(None, lambda body: (400, "image too large", None)) as (url, _),
        pytest.raises(ServerError, match="image too large"),
    ):
        load(url).ask(IMAGE, "a river?")


@pytest.mark.parametrize(
    "content",
    [
        "<think>A dark line runs through it: no, yes.</think>\n\nyes",
        "A dark line.\n</think>\nyes",
        "<reasoning>[1] no</reasoning><answer>yes</answer>",
        "<|channel|>analysis<|message|>no<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>",
        "yes<|im_end|>",
        "**Yes.**",
        '```json\n{"answer": "yes"}\n```',
        '<think>{"answer": "no"}</think>{"answer": "yes"}',
        [{"type": "text", "text": "yes"}],
    ],
)
def test_the_answer_after_reasoning_is_an_option(content):
    with serving(lambda body: {"content": content}) as (url, _):
        assert load(url).ask(IMAGE, "a river?", ["yes", "no"]).answer == "yes"


def test_a_stream_shows_the_answer_alone():
    text = "<think>It is <b>dark</b>.</think>\n\nIt is a river <wide> one.<|im_end|>"
    with serving(lambda body: {"content": text}) as (url, _):
        runtime = load(url).runtime
        pieces: list[str] = []
        from lhrs.inference.runtime import Request

        (told,) = runtime.generate([Request((IMAGE,), "what?")], pieces.append)
        assert told.text == "It is a river <wide> one." == "".join(pieces) and len(pieces) > 5


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"content": None}, "the content is empty"),
        ({"content": ""}, "the content is empty"),
        ({"content": None, "reasoning_content": "It is yes"}, "reasoning only"),
        ({"content": "<think>It is</think>"}, "the content is empty"),
        ({"message": {"role": "assistant", "content": "<think>It"}, "finish_reason": "length"}, "cut off"),
        ({"message": {"role": "assistant", "content": None}, "finish_reason": "content_filter"}, "content filter"),
        ({"message": {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function",
          "function": {"name": "f", "arguments": ""}}]}, "finish_reason": "tool_calls"}, "tool"),
    ],
)  # fmt: skip
def test_no_answer_is_an_error(reply, reason):
    with serving(lambda body: reply) as (url, _), pytest.raises(ServerError, match=reason) as error:
        load(url).ask(IMAGE, "a river?")
    assert "some-vl" in str(error.value) and "\n" not in str(error.value)


def test_a_refusal_is_told():
    with serving(lambda body: {"content": None, "refusal": "I can't help with that."}) as (url, _):
        assert load(url).ask(IMAGE, "who lives here?").answer == "I can't help with that."
        with pytest.raises(ServerError, match="refuses to answer: I can't help"):
            load(url).ask(IMAGE, "who?", ["a", "b"])


def test_a_model_that_reasons_gets_room_for_it():
    def reply(body):
        if body["max_tokens"] < 1000:
            return {"message": {"role": "assistant", "content": "<think>Let me"}, "finish_reason": "length"}
        return {"content": "<think>Let me see.</think>yes"}

    with serving(reply) as (url, bodies):
        model = load(url)
        assert model.ask(IMAGE, "a river?").answer == "yes" and len(bodies) == 2
        assert model.ask(IMAGE, "a road?").answer == "yes" and len(bodies) == 3


def test_the_command_prints_the_answer_or_one_line():
    with serving(lambda body: {"content": "<think>no</think>yes"}, refuses("max_tokens")) as (url, _):
        done = run("ask", RIVER, "is there a river?", "-m", url)
        assert (done.returncode, done.stdout) == (0, "yes\n")
    with serving(lambda body: {"content": None}) as (url, _):
        done = run("ask", RIVER, "is there a river?", "--model", url, code=2)
        assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1

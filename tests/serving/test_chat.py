import json
import math
import threading
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest
from tests.serving.conftest import RIVER, picture, refusal, running, said

from lhrs.imagery.image import open_image
from lhrs.inference.assistant import confidence_of
from lhrs.inference.load import load
from lhrs.inference.runtime import Generation, Request
from lhrs.serving.batching import Batcher

RIVER_PICTURE = picture(RIVER)


def test_the_official_client_gets_what_the_model_says(writing_server, writer):
    question = "is there a river in this image?"
    (reply,) = writer.runtime.generate([Request((open_image(RIVER).pixels,), question)])
    client = writing_server.client()
    assert [m.id for m in client.models.list()] == [writing_server.model]
    messages = [{"role": "user", "content": [RIVER_PICTURE, said(question)]}]
    done = client.chat.completions.create(model=writing_server.model, messages=messages, logprobs=True, top_logprobs=1)
    choice = done.choices[0]
    assert (choice.message.content, choice.finish_reason) == (reply.text, "stop")
    assert done.usage.prompt_tokens == reply.prompt_tokens > 9 and done.usage.completion_tokens == len(
        reply.token_texts
    )
    told = [t.logprob for t in choice.logprobs.content]
    assert told == pytest.approx([math.log(p) for p in reply.probabilities], abs=1e-4)
    assert "".join(t.token for t in choice.logprobs.content).strip() == reply.text
    extra = done.model_extra["lhrs"]
    assert extra["confidence"] == pytest.approx(confidence_of(reply, long=False, is_option=False), abs=1e-4)
    assert extra["rendering"]["bands"] == [1, 2, 3] and extra["ignored"] == []


def test_a_stream_is_the_answer_in_pieces(writing_server, writer):
    question = "describe the image in one sentence."
    (reply,) = writer.runtime.generate([Request((open_image(RIVER).pixels,), question)])
    chunks = list(
        writing_server.client().chat.completions.create(
            model=writing_server.model,
            messages=[{"role": "user", "content": [RIVER_PICTURE, said(question)]}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(pieces) > 2 and "".join(pieces) == reply.text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(reply.token_texts)
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-2].model_extra["lhrs"]["rendering"]
    raw = writing_server.ask([RIVER_PICTURE, said(question)], stream=True).text
    assert raw.endswith("data: [DONE]\n\n") and "usage" not in raw


def test_many_streams_share_batches_and_do_not_mix(writing_server, writer):
    questions = ["describe the image in one sentence.", "is there a river?", "what is the land use in this image?"] * 4
    alone = {q: writer.runtime.generate([Request((open_image(RIVER).pixels,), q)])[0].text for q in questions[:3]}
    found: dict[int, str] = {}

    def ask(n: int) -> None:
        lines = writing_server.ask([RIVER_PICTURE, said(questions[n])], stream=True).text.splitlines()
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        found[n] = "".join(e["choices"][0]["delta"].get("content") or "" for e in events)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert found == {n: alone[q] for n, q in enumerate(questions)}


def test_structured_answers(server):
    def form(value):
        schema = {"type": "object", "properties": {"kind": value}, "required": ["kind"], "additionalProperties": False}
        return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}

    def ask(question, value):
        done = server.ask([RIVER_PICTURE, said(question)], response_format=form(value)).json()
        return done["choices"][0]["message"]

    labels = ["AnnualCrop", "River", "Sea lake"]
    assert json.loads(ask("what is it?", {"type": "string", "enum": labels})["content"])["kind"] in labels
    number = ask("how many buildings are there?", {"type": "integer", "minimum": 0})
    assert number["refusal"] or isinstance(json.loads(number["content"])["kind"], int)
    boxes = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    found = json.loads(ask("locate the buildings.", boxes)["content"])["kind"]
    assert all(len(box) == 4 and 0 <= min(box) <= max(box) <= 256 for box in found)
    for bad in ({"type": "string"}, {"type": "object"}, {"enum": [1]}, {"type": "integer", "maximum": 3}):
        error = refusal(server.ask([RIVER_PICTURE, said("?")], response_format=form(bad)))
        assert error["param"] == "response_format"
    assert server.ask([said("hello")], response_format={"type": "text"}).status_code == 200


def test_our_own_client_works_with_our_own_server(server, assistant, trained):
    remote = load(f"{server.url}/v1")
    labels = ["river", "forest", "annual crop"]
    picture = str(RIVER.with_suffix(".png"))  # it is sent without its ground sampling distance
    for ask in (
        lambda a: a.classify(picture, labels),
        lambda a: a.ask(picture, "Is there a river in this image?"),
        lambda a: a.count(picture),
        lambda a: a.ground(picture, "trees"),
        lambda a: a.ground(picture, "water"),
    ):
        here, there = ask(assistant), ask(remote)
        assert (there.answer, there.confidence) == (here.answer, pytest.approx(here.confidence, abs=1e-3))
        assert there.out_of_distribution == here.out_of_distribution
        assert len(there.boxes) == len(here.boxes)
        for ours, theirs in zip(here.boxes, there.boxes, strict=True):
            assert theirs.xyxy == pytest.approx(ours.xyxy, abs=0.01)
            assert (theirs.label, theirs.confidence) == (ours.label, pytest.approx(ours.confidence, abs=1e-3))


def test_drawn_answers_depend_on_the_seed_only(writing_server):
    def draw(seed):
        return writing_server.ask([RIVER_PICTURE, said("describe the image.")], temperature=2.0, seed=seed).json()[
            "choices"
        ][0]

    assert draw(1) == draw(1) and len({draw(n)["message"]["content"] for n in range(6)}) > 1
    short = writing_server.ask(
        [RIVER_PICTURE, said("describe the image in one sentence.")], max_completion_tokens=2
    ).json()
    assert short["choices"][0]["finish_reason"] == "length" and short["usage"]["completion_tokens"] == 2


def test_conversations_and_several_images(server, writing_server):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [RIVER_PICTURE, said("is there a river?")]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [picture(RIVER), said("and a lake?")]},
    ]
    done = server.ask(None, messages=messages)
    assert done.status_code == 200 and done.json()["lhrs"]["ignored"] == ["system"]
    written = writing_server.ask(None, messages=messages).json()
    assert written["lhrs"]["ignored"] == [] and written["usage"]["prompt_tokens"] > 18  # two images
    for bad in (messages[:3], messages[2:]):
        refusal(server.ask(None, messages=bad))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": "gpt-4"}, "model"),
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"lhrs": {"task": "paint"}}, "lhrs.task"),
        ({"lhrs": {"task": "classify", "labels": ["River", "river"]}}, "lhrs.labels"),
        ({"lhrs": {"bbox": [0, 0, 1, 1]}}, "lhrs.bbox"),
        ({"lhrs": {"crs": "/etc/passwd"}}, "lhrs.crs"),
        ({"messages": [{"role": "user", "content": "a " * 10_001}]}, "messages"),
    ],
)
def test_what_is_wrong_is_named(server, change, param):
    error = refusal(server.ask("hello", **change), 404 if param == "model" else 400)
    assert error["param"].startswith(param)


def test_a_label_without_a_place_is_told(server):
    done = server.ask([RIVER_PICTURE], lhrs={"task": "classify", "labels": ["river", "qwxz"]}).json()["lhrs"]
    assert done["answer"] == "river" and len(done["warnings"]) == 1 and "'qwxz'" in done["warnings"][0]
    assert server.ask("Is there water?").json()["lhrs"]["warnings"] == []


def test_json_that_is_none(server):
    for body in (b"", b"{", b"[" * 100_000, b'{"model": "\\ud800"}', b"\xff\xfe", b"null", b'"x"'):
        refusal(server.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"}))
    refusal(server.http.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"}), 415)
    refusal(server.http.get("/v1/nothing"), 404)
    refusal(server.http.get("/v1/chat/completions"), 405)


def test_a_long_question_fails_alone(server):
    """One request that the model cannot take does not fail those of its batch."""
    results: dict[int, httpx.Response] = {}

    def ask(n):
        results[n] = server.ask([RIVER_PICTURE, said("river " * 3000 if n == 3 else "is there a river?")])

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert {n: r.status_code for n, r in results.items()} == {n: 400 if n == 3 else 200 for n in range(8)}
    assert refusal(results[3])["code"] == "context_length_exceeded"


class Slow:
    """A model that takes its time, and notes its batches."""

    def __init__(self, assistant, seconds: float) -> None:
        self.name, self.family, self.ood_threshold = "slow", assistant.runtime.family, None
        self.seconds, self.batches = seconds, []

    def generate(self, requests, on_text=None):
        self.batches.append([r.question for r in requests])
        time.sleep(self.seconds)
        return [Generation("yes", ("yes",), (0.5, 0.5)) for _ in requests]

    def ood_score(self, pixels):
        return None


def test_a_full_queue_and_a_slow_model(assistant):
    slow = type(assistant)(Slow(assistant, 0.4))
    with running(slow, max_pending=4, batch_size=4) as server:
        results = []

        def ask(n):
            results.append(server.ask(f"question {n}"))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
        for thread in threads:
            thread.start()
            time.sleep(0.01)
        [t.join() for t in threads]
        statuses = sorted(r.status_code for r in results)
        assert statuses.count(429) >= 4 and statuses.count(200) >= 4 and set(statuses) == {200, 429}
        refused = next(r for r in results if r.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1 and refusal(refused, 429)["code"] == "queue_full"
        assert max(map(len, slow.runtime.batches)) > 1  # those that waited went together
        with pytest.raises(openai.RateLimitError):
            threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
            [t.start() for t in threads]
            time.sleep(0.15)
            server.client().chat.completions.create(model="slow", messages=[{"role": "user", "content": "x"}])
        [t.join() for t in threads]
        metrics = server.http.get("/metrics").text
        assert 'lhrs_requests_total{route="/v1/chat/completions",status="200"}' in metrics
        assert "lhrs_queue_length 0.0" in metrics and "lhrs_batch_size_bucket" in metrics


def test_who_hangs_up_is_dropped_and_who_waits_too_long_is_told(assistant):
    slow = type(assistant)(Slow(assistant, 0.6))
    with running(slow, batch_size=1, timeout_s=1.0) as server:
        first = threading.Thread(target=server.ask, args=("first",))
        first.start()
        time.sleep(0.2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{server.url}/v1/chat/completions",
                json={"model": "slow", "messages": [{"role": "user", "content": "gone"}]},
                timeout=0.1,
            )
        late = [threading.Thread(target=lambda: results.append(server.ask("late"))) for _ in range(3)]
        results: list[httpx.Response] = []
        [t.start() for t in late]
        [t.join() for t in [first, *late]]
        assert ["gone"] not in slow.runtime.batches
        codes = [r.status_code for r in results]
        assert 503 in codes and refusal(next(r for r in results if r.status_code == 503), 503)["code"] == "timeout"


def test_one_thread_owns_the_model(assistant):
    seen: set[int] = set()
    slow = Slow(assistant, 0.0)
    inner = slow.generate
    slow.generate = lambda requests: (seen.add(threading.get_ident()), inner(requests))[1]
    with running(type(assistant)(slow)) as server:
        threads = [threading.Thread(target=server.ask, args=("x",)) for _ in range(6)]
        [t.start() for t in threads]
        [t.join() for t in threads]
    assert len(seen) == 1 and np.all([i != threading.get_ident() for i in seen])
    assert isinstance(server.service.batcher, Batcher)

"""Requests as OpenAI's clients, and tools around them, write them."""

import base64
import enum
import json
from typing import Literal
from urllib.parse import quote

import httpx2 as httpx
import pytest
from pydantic import BaseModel
from tests.serving.conftest import RIVER, picture, refusal, running, said

from lhrs.errors import ConfigError
from lhrs.serving.proxies import parse_networks

QUESTION = "is there a river?"
DATA = RIVER.read_bytes()
BASE64 = base64.b64encode(DATA).decode()


def answer(response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def test_an_answer_can_be_sent_back_as_the_client_keeps_it(server):
    client = server.client()
    first = [{"role": "user", "content": [picture(RIVER), said(QUESTION)]}]
    message = client.chat.completions.create(model=server.model, messages=first).choices[0].message
    parsed = client.chat.completions.parse(model=server.model, messages=first).choices[0].message
    last = {"role": "user", "content": "and a road?"}
    for kept in (message, message.model_dump(), message.to_dict(), parsed.model_dump(),
                 {**message.model_dump(), "annotations": [], "reasoning_content": "hm"}):  # fmt: skip
        done = client.chat.completions.create(model=server.model, messages=[*first, kept, last])
        assert done.choices[0].message.content
    wrong = {**message.model_dump(), "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}
    error = refusal(server.ask(None, messages=[*first, wrong, last]))
    assert error["param"] == "messages.1.tool_calls" and error["message"].startswith("messages.1.tool_calls: ")


NOTHING = [
    *({name: None} for name in ("stop", "tools", "temperature", "stream_options", "max_tokens", "made_up", "lhrs")),
    {"tools": [], "tool_choice": "none", "parallel_tool_calls": True},
    {"stop": [], "logit_bias": {}, "n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "modalities": ["text"]},
    {"logprobs": False, "top_logprobs": 0, "stream_options": {"include_usage": False}, "response_format": None},
    {"user": "me", "metadata": {"a": "b"}, "seed": 3, "service_tier": "auto", "safety_identifier": "x", "store": False},
    {"top_p": 0.9, "top_k": 40, "min_p": 0.05, "reasoning_effort": "none"},
]


@pytest.mark.parametrize("fields", NOTHING, ids=lambda fields: next(iter(fields)))
def test_fields_that_ask_for_nothing_change_nothing(server, fields):
    content = [picture(RIVER), said(QUESTION)]
    assert answer(server.ask(content, **fields)) == answer(server.ask(content))


@pytest.mark.parametrize(
    "fields",
    [{"tools": [{"type": "function"}]}, {"tool_choice": "required"}, {"n": 2}, {"n": True}, {"stop": ["a"]},
     {"logit_bias": {"5": 1}}, {"frequency_penalty": 0.5}, {"modalities": ["audio"]}, {"reasoning_effort": "high"},
     {"top_p": 0.5, "temperature": 1}, {"functions": [{}]}, {"made_up": 1}, {"max_completion_tokens": -1}],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_fields_that_would_change_the_answer_are_refused_by_name(server, fields):
    name = next(iter(fields))
    error = refusal(server.ask(QUESTION, **fields))
    assert error["param"] == name and error["message"].startswith(f"{name}: ")


def test_what_is_ignored_is_reported(server):
    assert server.ask(QUESTION, store=True).json()["lhrs"]["ignored"] == ["store"]


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/tiff;base64,{base64.encodebytes(DATA).decode()}",
        "data:image/tiff;base64," + "\r\n".join(BASE64[n : n + 64] for n in range(0, len(BASE64), 64)) + "\r\n",
        f"data:image/tiff;base64,{base64.urlsafe_b64encode(DATA).decode()}",
        f"data:image/tiff;base64,{BASE64.rstrip('=')}",
        f"data:image/tiff;base64,{quote(BASE64, safe='')}",
        f"data:image/tiff;name=a.tif;charset=utf-8;base64,{BASE64}",
        f"DATA:IMAGE/TIFF;BASE64,{BASE64}",
        f" data:;base64, {BASE64}",
        f"data:image/tiff,{quote(DATA)}",
    ],
    ids=["lines", "crlf", "url-safe", "no padding", "percent", "parameters", "upper", "blanks", "no base64"],
)
def test_every_spelling_of_base64_is_read(server, url):
    asked = [{"type": "image_url", "image_url": {"url": url}}, said("describe the image in one sentence.")]
    assert answer(server.ask(asked)) == answer(server.ask([picture(RIVER), asked[1]]))


@pytest.mark.parametrize("url", ["data:image/png;base64,%%%", "data:image/png;base64,AAAAA", "data:image/png;base64,ü",
                                 "data:image/png;base64", "data:image/png;base64,AA=A"])  # fmt: skip
def test_damaged_base64_is_named_by_its_field(server, url):
    error = refusal(server.ask([said("x"), {"type": "image_url", "image_url": {"url": url}}]))
    assert error["param"] == "messages.0.content.1.image_url" and error["message"].startswith(error["param"])


def test_images_in_other_parts(server):
    url = f"data:image/tiff;base64,{BASE64}"
    with RIVER.open("rb") as file:
        uploaded = server.client().files.create(file=file, purpose="vision").id
    expected = answer(server.ask([picture(RIVER), said(QUESTION)]))
    for part in (
        {"type": "image_url", "image_url": url},
        {"type": "image_url", "image_url": {"url": url, "detail": None}},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_image", "file_id": uploaded},
        {"type": "input_file", "file_id": uploaded},
        {"type": "input_file", "file_data": url, "filename": "river.tif"},
        {"type": "file", "file": {"file_data": url, "file_id": None}},
    ):
        assert answer(server.ask([part, {"type": "input_text", "text": QUESTION}])) == expected


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (5, "messages.0.content"),
        ([{"type": "image_url", "image_url": 5}], "messages.0.content.0.image_url"),
        ([{"type": "image_url", "image_url": {"url": 5}}], "messages.0.content.0.image_url.url"),
        ([{"type": "image_url"}], "messages.0.content.0"),
        ([said("x"), {"type": "video_url"}], "messages.0.content.1"),
        ([{"type": "input_image", "file_id": "file-1"}, said("x")], "messages.0.content.0.file_id"),
        ([{"type": "text", "text": None}], "messages.0.content.0.text"),
    ],
)
def test_errors_name_the_field_as_it_was_sent(server, content, param):
    response = server.ask(content)
    error = refusal(response, 404 if "file_id" in param else 400)
    assert error["param"] == param and error["message"].startswith(f"{param}: ")
    assert not any(word in error["message"] for word in ("constrained", "union", "tag", "list["))


def test_a_bom_before_the_json(server):
    body = {"model": server.model, "messages": [{"role": "user", "content": QUESTION}]}
    data = b"\xef\xbb\xbf" + json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    assert answer(server.http.post("/v1/chat/completions", content=data, headers=headers))


def test_head_answers_like_get(server):
    for path in ("/", "/health", "/v1/models", f"/v1/models/{server.model}"):
        head, get = server.http.head(path), server.http.get(path)
        assert head.status_code == get.status_code == 200 and head.content == b""
        assert head.headers["content-type"] == get.headers["content-type"]
    assert server.http.head("/v1/chat/completions").status_code == 405
    assert "/v1" in refusal(server.http.post("/v1/responses", json={}), 404)["message"]


class Kind(enum.Enum):
    RIVER = "river"
    FOREST = "forest"


class OfLiteral(BaseModel):
    kind: Literal["river", "forest"]


class OfEnum(BaseModel):
    kind: Kind


class OfBool(BaseModel):
    found: bool


class OfTwo(BaseModel):
    kind: Kind
    sure: float


def test_models_of_pydantic_as_response_format(server):
    client = server.client()
    messages = [{"role": "user", "content": [picture(RIVER), said("which is it?")]}]

    def parse(model):
        done = client.chat.completions.parse(model=server.model, messages=messages, response_format=model)
        return done.choices[0].message.parsed

    assert parse(OfLiteral).kind == parse(OfEnum).kind.value
    assert parse(OfBool).found in (True, False)
    with pytest.raises(Exception, match="response_format: only an object with one property"):
        parse(OfTwo)


@pytest.fixture(scope="module")
def proxied(assistant):
    with running(assistant, trusted_proxies=("127.0.0.0/8",)) as found:
        yield found


FORWARDED = {"x-forwarded-host": "maps.example", "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9"}


def test_a_page_behind_a_trusted_proxy_may_ask(server, proxied):
    headers = {**FORWARDED, "origin": "https://maps.example"}
    assert answer(proxied.ask(QUESTION, headers=headers))
    error = refusal(server.ask(QUESTION, headers=headers), 403)  # there the proxy is not named
    assert "--trusted-proxy" in error["message"] and "X-Forwarded-Host" in error["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {**FORWARDED, "origin": "https://evil.example"},
        {**FORWARDED, "origin": "http://maps.example"},
        {**FORWARDED, "origin": "https://maps.example:8443"},
        {**FORWARDED, "origin": "https://maps.example:port"},
        {**FORWARDED, "origin": "null"},
        {**FORWARDED, "host": "evil.example"},  # a name made to point here, with headers of its own
        {"host": "[", "origin": "http://["},
    ],
    ids=["site", "scheme", "port", "no port", "null", "rebinding", "malformed"],
)
def test_other_pages_behind_a_proxy_may_not(proxied, headers):
    error = refusal(proxied.ask(QUESTION, headers=headers), 403)
    assert "Host" in error["message"] or "Origin" in error["message"]


def test_a_proxy_is_an_address():
    assert len(parse_networks(("10.0.0.2", "10.1.0.0/16", "::1"))) == 3
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        parse_networks(("proxy.example",))


def test_a_host_without_keys_says_what_to_do(server):
    error = refusal(httpx.get(f"{server.url}/v1/models", headers={"host": "lab.example"}), 403)
    assert "LHRS_API_KEYS" in error["message"] and error["code"] == "host_not_allowed"

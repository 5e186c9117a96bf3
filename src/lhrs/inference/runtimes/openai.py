"""Client of OpenAI-compatible servers: vLLM, SGLang, llama.cpp, Ollama, `lhrs serve` and others."""

import base64
import io
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from lhrs.errors import ConfigError, MissingExtraError, ServerError
from lhrs.inference.decoding import TextStreamer
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.options import ModelOptions
from lhrs.inference.runtime import Generation, Request
from lhrs.reasoning import strip_reasoning
from lhrs.registry import load_components

_CONCURRENCY = 8
"""Requests in progress at a time."""
_REASONING_TOKENS = 4096
"""Additional tokens for models that reason before they answer."""
_OPTIONAL = ("temperature", "seed", "logprobs", "response_format")
"""Fields that are omitted if a server rejects them."""
PER_MINUTE = "LHRS_REQUESTS_PER_MINUTE"
_logger = logging.getLogger(__name__)


class OpenAIRuntime:
    """Ask a server. Images are sent as PNG inside the request.

    The API key is read from the environment variable OPENAI_API_KEY. Requests are retried with exponential backoff. The
    environment variable LHRS_REQUESTS_PER_MINUTE limits the rate of requests.
    A field that the server rejects is replaced or omitted in all further requests.

    Args:
        url: up to and including `/v1`; `#name` after it picks one of the server's models, else its first is taken.
        options: of the images that are sent; other options are not read here.

    Raises:
        MissingExtraError: the client is not installed.
        ServerError: there is no answer, or no model.
        ConfigError: LHRS_REQUESTS_PER_MINUTE is not a number.
    """

    ood_threshold: float | None = None

    def __init__(self, url: str, options: ModelOptions = ModelOptions()) -> None:  # noqa: B008 (frozen)
        self._options = options
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("a server's URL needs the client: pip install 'lhrs[remote]'") from error
        base, _, model = url.partition("#")
        self._errors: Any = openai.OpenAIError
        self._refusals: Any = (openai.BadRequestError, openai.PermissionDeniedError, openai.UnprocessableEntityError)
        self._url = base
        self._rate_limiter = RateLimiter(os.environ.get(PER_MINUTE))
        self._client = openai.OpenAI(base_url=base, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=4)
        self._omitted: set[str] = set()
        self._token_field = "max_tokens"  # the older name, the only one in servers from before 2025
        self._reasons = False
        listed = [] if model else [entry.id for entry in self._call(lambda: self._client.models.list())]
        if not model and not listed:
            raise ServerError(f"{base} lists no models: name one as {base}#NAME")
        self.name = model or listed[0]
        self.family = _family_by_name(self.name)

    def ood_score(self, pixels: np.ndarray) -> None:
        """See `Runtime.ood_score`; servers report none."""
        return

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`. Whether answers depend on the batch is determined by the server.

        Raises:
            ServerError: the server fails, gives no answer, or answers with none of the options.
        """
        if on_text is not None and len(requests) == 1:
            return [self._answer(replace(requests[0], on_text=on_text))]
        with ThreadPoolExecutor(_CONCURRENCY) as pool:
            return list(pool.map(self._answer, requests))

    def _answer(self, request: Request) -> Generation:
        request = replace(request, images=tuple(map(self._options.reduce, request.images)))
        if request.on_text is not None:
            return self._stream(request, request.on_text)
        fields = {**_response_format(request), "logprobs": True}
        while True:
            completion = self._complete(request, fields)
            choice = _first_choice(completion, self._url)
            raw = _content(choice.message).strip()
            text = strip_reasoning(raw).strip()
            if not self._wants_room(text, choice.finish_reason):
                break
        reasoned = text != raw or bool(_reasoning(choice.message))
        self._reasons = self._reasons or reasoned
        self._check_answer(text, choice.message, choice.finish_reason, request)
        logprobs = choice.logprobs.content if choice.logprobs is not None and choice.logprobs.content else []
        tokens = [] if reasoned else [(t.token, math.exp(t.logprob)) for t in logprobs]  # not those of the reasoning
        found = self._generation(request, _read_json(text) if "response_format" in fields else text, tokens)
        return _with_lhrs_fields(found, _field(completion, "lhrs"), _size(request))

    def _stream(self, request: Request, on_text: Callable[[str], None]) -> Generation:
        while True:
            answer, last, finish_reason = _AnswerStream(on_text), None, None
            for part in self._complete(request, {"stream": True}):
                if part.choices:
                    last = part.choices[0].delta
                    finish_reason = part.choices[0].finish_reason or finish_reason
                    answer.add(_content(last))
            text = answer.finish()
            if not self._wants_room(text, finish_reason):
                break
        self._check_answer(text, last, finish_reason, request)
        return self._generation(request, text, [])

    def _wants_room(self, text: str, finish_reason: str | None) -> bool:
        """Return whether the output was truncated during reasoning; further requests get more tokens."""
        cut_off = finish_reason == "length" and not text and not self._reasons
        self._reasons = self._reasons or cut_off
        return cut_off

    def _complete(self, request: Request, fields: dict[str, Any]) -> Any:
        """Return the server's answer. Rejected fields are replaced or omitted, one after another."""
        omitted: set[str] = set()
        while True:
            body = {**self._body(request), **fields}
            body = {name: value for name, value in body.items() if name not in self._omitted | omitted}
            try:
                return self._call(lambda body=body: self._client.chat.completions.create(**body))  # type: ignore[misc]
            except _RefusedError as error:
                if self._adapt(body, error):
                    continue
                # The error names no optional field: the server probably lacks the newest ones.
                unknown = {"logprobs", "response_format"} & set(body)
                if not unknown:
                    raise
                omitted |= unknown

    def _adapt(self, body: dict[str, Any], error: "_RefusedError") -> bool:
        """Omit the field that a server rejects in all requests; return whether it is an optional one."""
        if "max_tokens" in body and _names(error, "max_tokens"):
            self._token_field = "max_completion_tokens"
            return True
        refused = {name for name in _OPTIONAL if name in body and _names(error, name)}
        if "temperature" in refused - self._omitted:
            _logger.warning("%s refuses temperature: its answers may differ from run to run.", self.name)
        self._omitted = self._omitted | refused
        return bool(refused)

    def _check_answer(self, text: str, message: Any, finish_reason: str | None, request: Request) -> None:
        """Raise ServerError if there is no answer, or if it is a refusal although options are given."""
        refusal = _field(message, "refusal")
        if refusal and request.options is not None:
            raise ServerError(f"{self.name} refuses to answer: {refusal[:200]}")
        if text or (request.answer_type == "boxes" and _field(message, "content") is not None):
            return
        if finish_reason == "length":
            raise ServerError(f"{self.name} gave no answer: it was cut off while it was reasoning.")
        if finish_reason == "content_filter":
            raise ServerError(f"{self.name} gave no answer: the server's content filter withheld it.")
        if _field(message, "tool_calls"):
            raise ServerError(f"{self.name} gave no answer: it called a tool.")
        only = ", there is reasoning only" if _reasoning(message) else ""
        raise ServerError(f"{self.name} gave no answer: the content is empty{only}.")

    def _generation(self, request: Request, text: str, tokens: list[tuple[str, float]]) -> Generation:
        if request.options is not None:
            plain = {option.strip().lower(): option for option in request.options}
            option = plain.get(text.strip().strip(".*\"'`").lower())
            if option is None:
                raise ServerError(f"{self.name} answered {text[:80]!r}, which is none of the options")
            text = option
        boxes = self.family.read_boxes(text, self.family.pixel_size(_size(request), None)).boxes
        return Generation(text, tuple(t for t, _ in tokens), tuple(p for _, p in tokens), boxes)

    def _body(self, request: Request) -> dict[str, Any]:
        system = self.family.system_prompt
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        for n, (question, answer) in enumerate([*request.history, (request.question, "")]):
            content: list[dict[str, Any]] = [{"type": "text", "text": question}]
            if n == 0:
                content = [*map(_image_part, request.images), *content]
            messages += [{"role": "user", "content": content}]
            messages += [{"role": "assistant", "content": answer}] if answer else []
        sampling = request.sampling
        seed = 0 if sampling is None else int(np.random.default_rng([sampling.seed, sampling.index]).integers(2**31))
        return {
            "model": self.name,
            "messages": messages,
            self._token_field: request.max_new_tokens + _REASONING_TOKENS * self._reasons,
            "temperature": 0.0 if sampling is None else sampling.temperature,
            "seed": seed,
        }

    def _call(self, what: Callable[[], Any]) -> Any:
        self._rate_limiter.wait()
        try:
            return what()
        except self._refusals as error:
            raise _RefusedError(f"{self._url} refuses: {_line(error)}", getattr(error, "param", None)) from error
        except self._errors as error:
            raise ServerError(f"{self._url} does not answer: {_line(error)}") from error


class RateLimiter:
    """A thread-safe rate limiter with evenly spaced calls per minute.

    Raises:
        ConfigError: the rate is not a number above 0.
    """

    def __init__(self, per_minute: str | None) -> None:
        try:
            self._interval_s = 60 / float(per_minute) if per_minute else 0.0
        except (ValueError, ZeroDivisionError):
            self._interval_s = -1.0
        if self._interval_s < 0:
            raise ConfigError(f"{PER_MINUTE} is {per_minute!r}, not a number above 0.")
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Block until the next call is allowed."""
        if not self._interval_s:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._interval_s
        time.sleep(turn - now)


class _RefusedError(ServerError):
    """The server rejects the request."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field


class _AnswerStream:
    """Forwards the answer of a stream without the reasoning before it and the end tokens after it."""

    _LONGEST_TAG = 24

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._raw, self._streamer = "", TextStreamer(on_text)

    def add(self, piece: str) -> None:
        """Receive the next text delta."""
        self._raw += piece
        if piece:
            text = strip_reasoning(self._raw)
            tag = max(text.rfind("<"), text.rfind("["), text.rfind("◁"))
            # A partial tag is held back until it is complete.
            whole = tag < 0 or len(text) - tag > self._LONGEST_TAG
            self._streamer.show(text if whole else text[:tag].rstrip(), complete=False)

    def finish(self) -> str:
        """Return the whole answer."""
        text = strip_reasoning(self._raw)
        self._streamer.show(text, complete=True)
        return text


def _with_lhrs_fields(found: Generation, fields: Any, size: tuple[int, int]) -> Generation:
    """Return an answer with what `lhrs serve` adds to it: boxes that are not in the text, confidence, familiarity.

    Args:
        found: from the text.
        fields: the field `lhrs` of the response; other servers have none.
        size: (width, height) of the image that was sent.
    """
    with suppress(KeyError, TypeError, ValueError):
        found = replace(found, out_of_distribution=bool(fields["out_of_distribution"]))
        if not found.probabilities and fields["confidence"] is not None:
            found = replace(found, probabilities=(float(fields["confidence"]),))
        if not len(found.boxes) and fields["boxes"]:
            xyxy = np.array([box["xyxy"] for box in fields["boxes"]], np.float32).reshape(-1, 4)
            found = replace(
                found, boxes=xyxy / np.array([*size, *size], np.float32),
                box_labels=tuple(str(box["label"]) for box in fields["boxes"]),
                box_scores=tuple(float(box["confidence"] or 0) for box in fields["boxes"]),
            )  # fmt: skip
    return found


def _names(error: _RefusedError, field: str) -> bool:
    return error.field == field or re.search(rf"\b{field}\b", str(error)) is not None


def _first_choice(completion: Any, url: str) -> Any:
    choices = getattr(completion, "choices", None)
    if not choices:
        raise ServerError(f"{url} answers without choices: it does not speak OpenAI's API.")
    return choices[0]


def _content(message: Any) -> str:
    """Return the content of a message, or its refusal."""
    content = _field(message, "content")
    if isinstance(content, list):  # some servers return content parts
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content or _field(message, "refusal") or ""


def _field(message: Any, name: str) -> Any:
    return getattr(message, name, None)


def _reasoning(message: Any) -> str:
    return _field(message, "reasoning_content") or _field(message, "reasoning") or ""


def _read_json(text: str) -> str:
    """Return the value of an answer in JSON; some servers accept a schema without enforcing it."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(re.sub(r"\A```(?:json)?\s*|\s*```\Z", "", text))["answer"])
    return text


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _image_part(pixels: np.ndarray) -> dict[str, Any]:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _size(request: Request) -> tuple[int, int]:
    height, width = request.images[0].shape[:2] if request.images else (1, 1)
    return width, height


def _response_format(request: Request) -> dict[str, Any]:
    """Return the JSON schema of an answer that is an option or a number."""
    if request.options is not None:
        answer: dict[str, Any] = {"type": "string", "enum": list(request.options)}
    elif request.answer_type == "number":
        answer = {"type": "integer", "minimum": 0}
    else:
        return {}
    schema = {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _family_by_name(model: str) -> ModelFamily:
    """Return the family that is served under a name, or whose file name is in it, the longest first."""
    families = load_components("lhrs.inference.families", ModelFamily)
    served = next((family for family in families.values() if model in family.served_as), None)
    if served is not None:
        return served()
    squeezed = "".join(c for c in model.lower() if c.isalnum())
    for name in sorted(families, key=len, reverse=True):
        if name.replace("_", "") in squeezed and families[name].in_model_names:
            return families[name]()
    return ModelFamily()

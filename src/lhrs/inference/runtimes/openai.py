"""A model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, `lhrs serve`, or a company's own."""

import base64
import io
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from lhrs.errors import ConfigError, MissingExtraError, ServerError
from lhrs.inference.model_family import ModelFamily, get_family
from lhrs.inference.runtime import Generation, Request
from lhrs.registry import names

_AT_ONCE = 8
"""Requests under way at a time."""
PER_MINUTE = "LHRS_REQUESTS_PER_MINUTE"


class OpenAIRuntime:
    """Ask a server. Images are sent as PNG inside the request.

    Args:
        url: up to and including `/v1`; `#name` behind it picks one of the server's models, else its first is taken.

    The key, where one is needed, is read from the environment variable OPENAI_API_KEY. A server that asks to wait is
    asked again, later and later; one that allows only so many requests is asked no more often than the environment
    variable LHRS_REQUESTS_PER_MINUTE says.

    Raises:
        MissingExtraError: the client is not installed.
        ServerError: there is no answer, or no model.
        ConfigError: LHRS_REQUESTS_PER_MINUTE is no number.
    """

    ood_threshold: float | None = None

    def __init__(self, url: str) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("a server's URL needs the client: pip install 'lhrs[remote]'") from error
        base, _, model = url.partition("#")
        self._errors: Any = openai.OpenAIError
        self._refused: Any = openai.BadRequestError
        self._url = base
        self._rate_limiter = RateLimiter(os.environ.get(PER_MINUTE))
        self._client = openai.OpenAI(base_url=base, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=4)
        listed = [] if model else [entry.id for entry in self._call(lambda: self._client.models.list())]
        if not model and not listed:
            raise ServerError(f"{base} lists no models: name one as {base}#NAME")
        self.name = model or listed[0]
        self.family = _family_by_name(self.name)

    def ood_score(self, pixels: np.ndarray) -> None:
        """See `Runtime.ood_score`; a server does not tell."""
        return

    def is_ood(self, features: np.ndarray | None) -> bool:
        """See `Runtime.is_ood`."""
        return False

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`; whether a batch answers as single questions do is up to the server.

        Raises:
            ServerError: the server fails, or answers with none of the options.
        """
        if on_text is not None and len(requests) == 1:
            return [self._stream(requests[0], on_text)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self._answer, requests))

    def _answer(self, request: Request) -> Generation:
        if request.on_text is not None:
            return self._stream(request, request.on_text)
        asked = self._asked(request)
        form = _form(request)
        try:
            done = self._call(lambda: self._client.chat.completions.create(**asked, **form, logprobs=True))
        except _RefusedError:  # a server that knows no forms or does not tell probabilities
            form = {}
            done = self._call(lambda: self._client.chat.completions.create(**asked))
        choice = done.choices[0]
        told = choice.logprobs.content if choice.logprobs is not None and choice.logprobs.content else []
        text = (choice.message.content or choice.message.refusal or "").strip()
        if form:
            with suppress(ValueError, KeyError, TypeError):  # some servers accept a form and do not keep it
                text = str(json.loads(text)["answer"])
        return self._reply(request, text, [(t.token, math.exp(t.logprob)) for t in told])

    def _stream(self, request: Request, on_text: Callable[[str], None]) -> Generation:
        pieces: list[str] = []
        for part in self._call(lambda: self._client.chat.completions.create(**self._asked(request), stream=True)):
            piece = part.choices[0].delta.content if part.choices else None
            if piece:
                pieces.append(piece)
                on_text(piece)
        return self._reply(request, "".join(pieces), [])

    def _reply(self, request: Request, text: str, told: list[tuple[str, float]]) -> Generation:
        if request.options is not None:
            plain = {option.strip().lower(): option for option in request.options}
            option = plain.get(text.strip().strip(".").lower())
            if option is None:
                raise ServerError(f"{self.name} answered {text[:80]!r}, which is none of the options")
            text = option
        boxes = self.family.read_boxes(text, _seen(request)).boxes
        return Generation(text, tuple(t for t, _ in told), tuple(p for _, p in told), boxes)

    def _asked(self, request: Request) -> dict[str, Any]:
        system = self.family.system_prompt
        turns: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        for n, (question, answer) in enumerate([*request.history, (request.question, "")]):
            content: list[dict[str, Any]] = [{"type": "text", "text": question}]
            if n == 0:
                content = [*map(_picture, request.images), *content]
            turns += [{"role": "user", "content": content}]
            turns += [{"role": "assistant", "content": answer}] if answer else []
        sampling = request.sampling
        seed = 0 if sampling is None else int(np.random.default_rng([sampling.seed, sampling.index]).integers(2**31))
        return {
            "model": self.name,
            "messages": turns,
            "max_tokens": request.max_new_tokens,
            "temperature": 0.0 if sampling is None else sampling.temperature,
            "seed": seed,
        }

    def _call(self, what: Callable[[], Any]) -> Any:
        self._rate_limiter.wait()
        try:
            return what()
        except self._refused as error:
            raise _RefusedError(f"{self._url} refuses: {_line(error)}") from error
        except self._errors as error:
            raise ServerError(f"{self._url} does not answer: {_line(error)}") from error


class RateLimiter:
    """Let callers through no more often than so many times a minute, evenly, from any number of threads.

    Raises:
        ConfigError: it is no number above 0.
    """

    def __init__(self, per_minute: str | None) -> None:
        try:
            self._apart_s = 60 / float(per_minute) if per_minute else 0.0
        except (ValueError, ZeroDivisionError):
            self._apart_s = -1.0
        if self._apart_s < 0:
            raise ConfigError(f"{PER_MINUTE} is {per_minute!r}, not a number above 0.")
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Return when it is the caller's turn."""
        if not self._apart_s:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._apart_s
        time.sleep(turn - now)


class _RefusedError(ServerError):
    """The server does not take the request as it is."""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _picture(pixels: np.ndarray) -> dict[str, Any]:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _seen(request: Request) -> tuple[int, int]:
    height, width = request.images[0].shape[:2] if request.images else (1, 1)
    return width, height


def _form(request: Request) -> dict[str, Any]:
    """Return the JSON schema that makes a server answer with an option or a number."""
    if request.options is not None:
        answer: dict[str, Any] = {"type": "string", "enum": list(request.options)}
    elif request.form == "number":
        answer = {"type": "integer", "minimum": 0}
    else:
        return {}
    schema = {"type": "object", "properties": {"answer": answer}, "required": ["answer"], "additionalProperties": False}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def _family_by_name(model: str) -> ModelFamily:
    """Return the adapter whose file name is in the name of a served model, the longest first."""
    squeezed = "".join(c for c in model.lower() if c.isalnum())
    for name in sorted(names("lhrs.inference.families"), key=len, reverse=True):
        if name.replace("_", "") in squeezed:
            return get_family(name)
    return ModelFamily()

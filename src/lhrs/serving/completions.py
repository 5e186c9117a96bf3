"""`/v1/chat/completions`: one answer, complete or streamed."""

import asyncio
import codecs
import json
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from lhrs.errors import ConfigError, LHRSError
from lhrs.inference.runtime import Generation
from lhrs.schema import Answer
from lhrs.serving import responses
from lhrs.serving.api_types import ChatRequest
from lhrs.serving.batching import Job
from lhrs.serving.errors import APIError, validation_error
from lhrs.serving.service import PreparedRequest, Service

T = TypeVar("T")
_LARGE = 2**18


async def complete(service: Service, request: Request) -> Response:
    """Answer a request.

    Raises:
        APIError: it cannot be answered.
    """
    deadline = time.monotonic() + service.settings.timeout_s
    try:
        async with asyncio.timeout(service.settings.timeout_s):
            chat = await _read(request)
            prepared = await _while_connected(request, service.prepare_request(chat, request.state.owner))
            if chat.stream:
                return _stream(service, request, prepared, deadline)
            job = service.submit(prepared, deadline)
            request.state.jobs.append(job)
            reply = await _while_connected(request, _reply(job))
    except TimeoutError:
        raise _too_late(service) from None
    text, refusal, fields = await _finish(service, request, prepared, reply)
    message = {"role": "assistant", "content": text, "refusal": refusal}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": responses.finish_reason(reply),
        "logprobs": responses.logprobs(reply, chat.top_logprobs, prepared.request.sampling is not None)
        if chat.logprobs
        else None,
    }
    return JSONResponse(
        {**_head(service, "chat.completion"), "choices": [choice], "usage": responses.usage(reply), "lhrs": fields}
    )


async def _read(request: Request) -> ChatRequest:
    body = (await request.body()).removeprefix(codecs.BOM_UTF8)
    try:
        if len(body) < _LARGE:
            return ChatRequest.model_validate_json(body)
        return await asyncio.to_thread(ChatRequest.model_validate_json, body)  # other requests continue meanwhile
    except ValidationError as error:
        raise validation_error(error, body) from None


async def _reply(job: Job) -> Generation:
    try:
        return await job.reply
    except ConfigError as error:
        raise APIError(400, str(error), "messages", "context_length_exceeded") from None
    except LHRSError as error:  # an upstream server
        raise APIError(503, str(error), code="model_failed") from None


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine; cancel it if the client disconnects."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise APIError(499, "the client is gone")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _stream(service: Service, request: Request, prepared: PreparedRequest, deadline: float) -> Response:
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    job = service.submit(prepared, deadline, None if prepared.whole else pieces.put_nowait)
    request.state.jobs.append(job)
    job.reply.add_done_callback(lambda done: pieces.put_nowait(None))
    events = _events(service, request, prepared, job, pieces, deadline)
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _events(
    service: Service,
    request: Request,
    prepared: PreparedRequest,
    job: Job,
    pieces: "asyncio.Queue[str | None]",
    deadline: float,
) -> AsyncIterator[str]:
    chat, head = prepared.chat, _head(service, "chat.completion.chunk")
    with_usage = chat.stream_options is not None and chat.stream_options.include_usage
    if with_usage:
        head["usage"] = None

    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": more.pop("logprobs", None)}
        return _event({**head, "choices": [choice], **more})

    yield chunk({"role": "assistant", "content": ""})
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            while (piece := await pieces.get()) is not None:
                yield chunk({"content": piece})
            reply = await _reply(job)
    except TimeoutError:
        yield _event(_too_late(service).body)
        return
    except APIError as problem:
        yield _event(problem.body)
        return
    text, refusal, fields = await _finish(service, request, prepared, reply)
    if prepared.whole:
        yield chunk({"content": text} if refusal is None else {"refusal": refusal})
    is_sampled = prepared.request.sampling is not None
    logprobs = responses.logprobs(reply, chat.top_logprobs, is_sampled) if chat.logprobs else None
    yield chunk({}, responses.finish_reason(reply), logprobs=logprobs, lhrs=fields)
    if with_usage:
        yield _event({**head, "choices": [], "usage": responses.usage(reply)})
    yield "data: [DONE]\n\n"


async def _finish(
    service: Service, request: Request, prepared: PreparedRequest, reply: Generation
) -> tuple[str | None, str | None, dict[str, Any]]:
    """Return the answer's content or refusal and the field `lhrs`; update metrics and the log."""
    image = prepared.images[0] if prepared.images else None

    def work() -> tuple[Answer, dict[str, Any]]:
        answer = service.assistant.answer("", image, prepared.task, reply)
        boxes = responses.whole_boxes(answer, image)
        warnings = service.assistant.runtime.family.label_warnings(prepared.task.options or ())
        return answer, responses.lhrs_fields(answer, image, boxes, prepared.chat.lhrs.crs, prepared.ignored, warnings)

    # PROJ is slow at the first conversion of boxes to map coordinates.
    located = image is not None and image.georeference is not None
    answer, fields = await asyncio.to_thread(work) if located else work()
    text, refusal = prepared.content(reply, answer, fields["boxes"])
    read, written = reply.prompt_tokens, len(reply.token_texts)
    service.metrics.tokens.labels("prompt").inc(read)
    service.metrics.tokens.labels("completion").inc(written)
    request.state.log.update(images=len(prepared.images), prompt_tokens=read, completion_tokens=written)
    if service.settings.log_text:
        request.state.log.update(question=prepared.task.question, answer=answer.answer)
    return text, refusal, fields


def _too_late(service: Service) -> APIError:
    return APIError(503, f"no answer within {service.settings.timeout_s:g} s", code="timeout", retry_s=service.wait_s())


def _head(service: Service, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": service.assistant.runtime.name,
        "system_fingerprint": None,
    }


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

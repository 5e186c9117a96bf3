"""Request handling: open the images, build the prompt, and run the model."""

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhrs import fingerprint
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.geo_image import GeoBounds, GeoImage
from lhrs.inference import tasks
from lhrs.inference.assistant import Assistant
from lhrs.inference.images import RenderingOptions
from lhrs.inference.runtime import Generation, Request, Sampling
from lhrs.inference.tasks import Task
from lhrs.schema import Answer
from lhrs.serving import image_worker
from lhrs.serving.api_types import ChatRequest, FilePart, Image, JsonSchema, conversation
from lhrs.serving.batching import Batcher, Job
from lhrs.serving.errors import APIError
from lhrs.serving.files import FileStore
from lhrs.serving.metrics import Metrics
from lhrs.serving.response_format import AnswerSchema, read_answer_schema
from lhrs.serving.scene_jobs import SceneQueue
from lhrs.serving.settings import Settings
from lhrs.serving.url_fetch import URLFetcher
from lhrs.serving.worker_pool import ImageWorkerPool

_NUM_DECODED = 64
"""Number of cached images: a conversation sends its image at every turn."""


@dataclass
class PreparedRequest:
    """A request that is ready for the model."""

    chat: ChatRequest
    task: Task
    images: list[GeoImage]
    schema: AnswerSchema | None
    request: Request
    ignored: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether the model's text is converted for the client: the answer is then not streamed token by token."""
        return self.schema is not None or self.task.options is not None or self.task.answer_type == "boxes"

    def content(self, reply: Generation, answer: Answer, boxes: list[dict[str, Any]]) -> tuple[str | None, str | None]:
        """Return the content of the assistant's message, or its refusal.

        Args:
            reply: of the model.
            answer: parsed from the reply.
            boxes: of `answer`, from `whole_boxes`.
        """
        if self.schema is not None:
            text = self.schema.write(answer, boxes)
            return text, None if text is not None else answer.answer
        return (answer.answer if self.whole and self.chat.lhrs.task else reply.text), None


class Service:
    """The state and the logic of the routes. It is created on the event loop, except for the model.

    Args:
        assistant: the model.
        settings: limits.
    """

    def __init__(self, assistant: Assistant, settings: Settings) -> None:
        self.assistant, self.settings = assistant, settings
        self.draining = False
        self.under_way = 0
        self.started = int(time.time())
        self.batcher = Batcher(
            assistant.runtime, settings.batch_size, settings.wait_ms / 1000, lambda n: self.metrics.batch.observe(n)
        )
        self.metrics = Metrics(lambda: len(self.batcher))
        self.fetcher = URLFetcher(settings.image_hosts, settings.max_body, settings.decode_s)
        self._decoded: OrderedDict[tuple, asyncio.Task[image_worker.DecodedImage]] = OrderedDict()

    async def start(self) -> None:
        """Start the workers."""
        self.files = FileStore(self.settings)
        self.scenes = SceneQueue(self.settings, self.files, self.assistant.runtime.family)
        limits = (self.settings.decoder_bytes, self.settings.max_pixels, self.settings.decode_s)
        self.image_workers = ImageWorkerPool(self.settings.image_workers, *limits)
        await self.image_workers.warm_up()

    async def stop(self) -> None:
        """Finish the queued requests and clean up."""
        await self.scenes.close()
        await asyncio.to_thread(self.batcher.close)
        self.image_workers.close()
        self.files.close()

    def wait_s(self) -> int:
        """Return the seconds after which a rejected client should retry."""
        batches = math.ceil(self.under_way / self.settings.batch_size)
        return max(1, round(batches * self.batcher.batch_s))

    async def prepare_request(self, chat: ChatRequest, owner: str) -> PreparedRequest:
        """Open the images of a request and build its prompt.

        Raises:
            APIError: the request is invalid.
        """
        if chat.model != self.assistant.runtime.name:
            message = f"the model here is {self.assistant.runtime.name!r}"
            raise APIError(404, message, "model", "model_not_found")
        try:
            system, history, question, parts = conversation(chat.messages)
        except ValueError as error:
            raise APIError(400, str(error), "messages", "invalid_value") from None
        length = len(system or "") + len(question) + sum(len(q) + len(a) for q, a in history)
        if length > self.settings.max_text:
            message = f"the messages have more than {self.settings.max_text} characters"
            raise APIError(400, message, "messages", "text_too_long")
        if len(parts) > self.settings.max_images:
            message = f"more than {self.settings.max_images} images"
            raise APIError(400, message, "messages", "too_many_images")
        ignored = []
        family = self.assistant.runtime.family
        if system is not None and not family.reads_system_messages:
            ignored.append("system")
        elif system is not None and system != family.system_prompt:
            if history:
                history[0] = (f"{system}\n{history[0][0]}", history[0][1])
            else:
                question = f"{system}\n{question}"
        task, schema = self._task(chat, question)
        if chat.store:
            ignored.append("store")
        area = None if chat.lhrs.bbox is None else GeoBounds(chat.lhrs.bbox, chat.lhrs.crs)
        if area is not None and not parts:
            raise APIError(400, "lhrs.bbox needs an image", "lhrs.bbox", "invalid_value")
        rendering = RenderingOptions(chat.lhrs.sensor, chat.lhrs.composite, chat.lhrs.gsd_m)
        self.batcher.announced += 1
        try:
            images = [await self._open(field, part, owner, area, rendering) for field, part in parts.items()]
        finally:
            self.batcher.announced -= 1
        seed = secrets.randbits(63) if chat.seed is None else chat.seed % 2**63
        request = Request(
            tuple(decoded.image.pixels for decoded in images),
            task.prompt,
            task.plain_options,
            task.answer_type,
            min(chat.token_limit or self.assistant.max_new_tokens, self.settings.max_tokens),
            Sampling(chat.temperature, seed) if chat.temperature > 0 else None,
            tuple(history),
        )
        return PreparedRequest(chat, task, [decoded.image for decoded in images], schema, request, ignored)

    def submit(self, prepared: PreparedRequest, deadline: float, listen: Callable[[str], object] | None = None) -> Job:
        """Queue a request for the model."""
        job = Job(prepared.request, deadline, listen)
        self.batcher.submit(job)
        return job

    def _task(self, chat: ChatRequest, question: str) -> tuple[Task, AnswerSchema | None]:
        fields, family = chat.lhrs, self.assistant.runtime.family
        empty = not question.strip()
        if empty and not (fields.task in ("caption", "classify", "count") or fields.expression):
            raise APIError(400, "there is no question", "messages", "invalid_value")
        schema = None
        try:
            if isinstance(chat.response_format, JsonSchema):
                schema = read_answer_schema(chat.response_format.json_schema.schema_)
        except ValueError as error:
            raise APIError(400, str(error), code="unsupported_value").at("response_format") from None
        try:
            if fields.task == "ask":
                return tasks.ask_task(family, question, fields.labels), None
            if fields.task == "caption":
                return tasks.caption_task(family), None
            if fields.task == "classify":
                return tasks.classify_task(family, fields.labels), None
            if fields.task == "ground":
                return tasks.ground_task(family, fields.expression or question), None
            if fields.task == "count":
                return tasks.count_task(family, fields.target or "buildings"), None
            if schema is None:
                return Task(question, question), None
            return Task(question, question, schema.options, answer_type=schema.answer_type), schema
        except ConfigError as error:
            where = "response_format" if schema else "lhrs.labels"
            raise APIError(400, str(error), code="invalid_value").at(where) from None

    async def _open(
        self, field: str, part: Image, owner: str, area: GeoBounds | None, rendering: RenderingOptions
    ) -> image_worker.DecodedImage:
        """Open an image of a request, or the part of it in an area.

        Raises:
            APIError: it cannot be opened, or is not allowed.
        """
        try:
            key, source = await self._source(part, owner)
            return await self._decode(key, source, area, rendering)
        except APIError as error:
            raise error.at(field) from None

    async def _source(self, part: Image, owner: str) -> tuple[tuple, Path | bytes | str]:
        """Return the cache key and the source of an image."""
        file_id, url = part.source
        if file_id is not None:
            file = self.files.get(file_id, owner)
            return ("file", file.id), file.path
        url = (url or "").strip()
        scheme = url[:8].lower()
        if scheme.startswith("data:"):
            return ("data", await asyncio.to_thread(lambda: fingerprint.sha256_of_bytes(url.encode()))), url
        if isinstance(part, FilePart) or not scheme.startswith(("http://", "https://")):
            message = "must be a data: URL in base64, an http(s) URL, or an uploaded file"
            raise APIError(400, message, code="invalid_image_url")
        return ("url", secrets.token_bytes(8)), await self.fetcher.get(url)

    async def decode_file(
        self,
        identity: str,
        path: Path,
        rendering: RenderingOptions = RenderingOptions(),  # noqa: B008 (frozen)
    ) -> image_worker.DecodedImage:
        """Open all of an uploaded file.

        Raises:
            APIError: it cannot be opened.
        """
        return await self._decode(("file", identity), path, None, rendering)

    async def _decode(
        self, key: tuple, source: Path | bytes | str, area: GeoBounds | None, rendering: RenderingOptions
    ) -> image_worker.DecodedImage:
        """Open an image once and cache it for concurrent and later requests."""
        key = (*key, area, rendering)
        task = self._decoded.get(key)
        if task is None:
            task = asyncio.create_task(self.image_workers.run(image_worker.decode_image, source, area, rendering))
            self._decoded[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
            while len(self._decoded) > _NUM_DECODED:
                self._decoded.popitem(last=False)
        else:
            self._decoded.move_to_end(key)
        try:
            return await asyncio.shield(task)
        except DataError as error:
            raise APIError(400, str(error), "messages", "invalid_image") from None

    def _keep(self, key: tuple, done: "asyncio.Task[image_worker.DecodedImage]") -> None:
        if done.cancelled() or done.exception() is not None:
            self._decoded.pop(key, None)

    def forget(self, identity: str) -> None:
        """Remove a deleted file from the cache."""
        for key in [key for key in self._decoded if key[1] == identity]:
            del self._decoded[key]

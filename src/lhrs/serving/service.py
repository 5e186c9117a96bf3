"""From a request to a reply: images are opened, the question is worded, the model asked."""

import asyncio
import hashlib
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import Area, OpenedImage
from lhrs.inference.assistant import Assistant, Task
from lhrs.inference.runtime import Reply, Request, Sampling
from lhrs.schema import Answer
from lhrs.serving import pictures
from lhrs.serving.batching import Batcher, Job
from lhrs.serving.decoders import Decoders
from lhrs.serving.fetch import Fetcher
from lhrs.serving.files import FileStore
from lhrs.serving.forms import Form, read_form
from lhrs.serving.messages import ChatRequest, FilePart, Image, JsonSchema, conversation
from lhrs.serving.metrics import Metrics
from lhrs.serving.problems import Problem
from lhrs.serving.scenes import Scenes
from lhrs.serving.settings import Settings

_LOOKS = 64
"""Opened images that are remembered: a conversation sends its image at every turn."""


@dataclass
class Asked:
    """A request that is ready for the model."""

    chat: ChatRequest
    task: Task
    images: list[OpenedImage]
    form: Form | None
    request: Request
    ignored: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """The model's words are not what the client gets: nothing can be told before the answer is complete."""
        return self.form is not None or self.task.options is not None or self.task.form == "boxes"

    def content(self, reply: Reply, answer: Answer, boxes: list[dict[str, Any]]) -> tuple[str | None, str | None]:
        """Return what the assistant says, or its refusal.

        Args:
            reply: of the model.
            answer: made of it.
            boxes: of `answer`, from `whole_boxes`.
        """
        if self.form is not None:
            text = self.form.write(answer, boxes)
            return text, None if text is not None else answer.answer
        return (answer.answer if self.whole and self.chat.lhrs.task else reply.text), None


class Service:
    """Everything behind the routes. Made on the event loop, except the model.

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
        self.fetcher = Fetcher(settings.allow_hosts, settings.max_body, settings.decode_s)
        self._looks: OrderedDict[tuple, asyncio.Task[pictures.Look]] = OrderedDict()

    async def start(self) -> None:
        """Take up work."""
        self.files = FileStore(self.settings)
        self.scenes = Scenes(self.settings, self.files)
        limits = (self.settings.decoder_bytes, self.settings.max_pixels, self.settings.decode_s)
        self.decoders = Decoders(self.settings.decoders, *limits)
        await self.decoders.warm_up()

    async def stop(self) -> None:
        """Finish what is queued, and leave nothing behind."""
        await self.scenes.close()
        await asyncio.to_thread(self.batcher.close)
        self.decoders.close()
        self.files.close()

    def wait_s(self) -> int:
        """Return when a client that was sent away had better come again."""
        batches = math.ceil(self.under_way / self.settings.batch_size)
        return max(1, round(batches * self.batcher.batch_s))

    async def prepare(self, chat: ChatRequest, owner: str) -> Asked:
        """Open the images of a request and word its question.

        Raises:
            Problem: something in the request is wrong.
        """
        if chat.model != self.assistant.runtime.name:
            message = f"the model here is {self.assistant.runtime.name!r}"
            raise Problem(404, message, "model", "model_not_found")
        try:
            system, history, question, parts = conversation(chat.messages)
        except ValueError as error:
            raise Problem(400, str(error), "messages", "invalid_value") from None
        length = len(system or "") + len(question) + sum(len(q) + len(a) for q, a in history)
        if length > self.settings.max_text:
            message = f"the messages have more than {self.settings.max_text} characters"
            raise Problem(400, message, "messages", "text_too_long")
        if len(parts) > self.settings.max_images:
            message = f"more than {self.settings.max_images} images"
            raise Problem(400, message, "messages", "too_many_images")
        ignored = []
        adapter = self.assistant.runtime.adapter
        if not adapter.reads_conversations:
            ignored = ["system"] * (system is not None) + ["history"] * bool(history)
        elif system is not None and system != adapter.system_prompt:
            if history:
                history[0] = (f"{system}\n{history[0][0]}", history[0][1])
            else:
                question = f"{system}\n{question}"
        task, form = self._task(chat, question)
        area = None if chat.lhrs.bbox is None else Area(chat.lhrs.bbox, chat.lhrs.crs)
        if area is not None and not parts:
            raise Problem(400, "there is no image to look at a part of", "lhrs.bbox", "invalid_value")
        self.batcher.announced += 1
        try:
            looks = [await self.look(part, area, owner) for part in parts]
        finally:
            self.batcher.announced -= 1
        temperature = chat.temperature or 0.0
        seed = secrets.randbits(63) if chat.seed is None else chat.seed % 2**63
        request = Request(
            tuple(look.image.pixels for look in looks),
            task.prompt,
            task.plain,
            task.form,
            min(chat.max_completion_tokens or chat.max_tokens or Request.max_new_tokens, self.settings.max_tokens),
            Sampling(temperature, seed) if temperature > 0 else None,
            tuple(history),
        )
        return Asked(chat, task, [look.image for look in looks], form, request, ignored)

    def submit(self, asked: Asked, deadline: float, listen: Callable[[str], object] | None = None) -> Job:
        """Queue a request for the model."""
        job = Job(asked.request, deadline, listen)
        self.batcher.submit(job)
        return job

    def _task(self, chat: ChatRequest, question: str) -> tuple[Task, Form | None]:
        given, asking = chat.lhrs, self.assistant
        empty = not question.strip()
        if empty and not (given.task in ("caption", "classify", "count") or given.expression):
            raise Problem(400, "there is no question", "messages", "invalid_value")
        form = None
        try:
            if isinstance(chat.response_format, JsonSchema):
                form = read_form(chat.response_format.json_schema.schema_)
        except ValueError as error:
            raise Problem(400, str(error), "response_format", "unsupported_value") from None
        try:
            if given.task == "ask":
                return asking.ask_task(question, given.labels), None
            if given.task == "caption":
                return asking.caption_task(), None
            if given.task == "classify":
                return asking.classify_task(given.labels), None
            if given.task == "ground":
                return asking.ground_task(given.expression or question), None
            if given.task == "count":
                return asking.count_task(given.thing or "buildings"), None
            kind = "text" if form is None or form.kind == "option" else form.kind
            return Task(question, question, None if form is None else form.options, form=kind), form
        except ConfigError as error:
            where = "response_format" if form else "lhrs.labels"
            raise Problem(400, str(error), where, "invalid_value") from None

    async def look(self, part: Image, area: Area | None, owner: str) -> pictures.Look:
        """Open an image of a request, or the part of it that lies in an area.

        Raises:
            Problem: it cannot be opened, or may not.
        """
        if isinstance(part, FilePart) and part.file.file_id is not None:
            file = self.files.get(part.file.file_id, owner)
            return await self._look(("file", file.id), file.path, area)
        url = part.file.file_data or "" if isinstance(part, FilePart) else part.image_url.url
        if url.startswith("data:"):
            digest = await asyncio.to_thread(lambda: hashlib.sha256(url.encode()).digest())
            return await self._look(("data", digest), url, area)
        if isinstance(part, FilePart) or not url.lower().startswith(("http://", "https://")):
            message = "an image must be a data: URL in base64, an http(s) URL, or a file that was uploaded"
            raise Problem(400, message, "image_url", "invalid_image_url")
        return await self._look(("url", secrets.token_bytes(8)), await self.fetcher.get(url), area)

    async def look_at_file(self, identity: str, path: Path) -> pictures.Look:
        """Open all of an uploaded file; see `look`."""
        return await self._look(("file", identity), path, None)

    async def _look(self, key: tuple, source: Path | bytes | str, area: Area | None) -> pictures.Look:
        """Open an image once for all who want it at the same time or soon after."""
        key = (*key, area)
        task = self._looks.get(key)
        if task is None:
            task = asyncio.create_task(self.decoders.run(pictures.look, source, area))
            self._looks[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
            while len(self._looks) > _LOOKS:
                self._looks.popitem(last=False)
        else:
            self._looks.move_to_end(key)
        try:
            return await asyncio.shield(task)
        except DataError as error:
            raise Problem(400, str(error), "messages", "invalid_image") from None

    def _keep(self, key: tuple, done: "asyncio.Task[pictures.Look]") -> None:
        if done.cancelled() or done.exception() is not None:
            self._looks.pop(key, None)

    def forget(self, identity: str) -> None:
        """Forget what was seen in a file that is deleted."""
        for key in [key for key in self._looks if key[1] == identity]:
            del self._looks[key]

"""A pool of processes that decode images. A process that hangs or crashes fails only its own request."""

import asyncio
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from lhrs.errors import DataError
from lhrs.serving.image_worker import preload, set_limits

P = ParamSpec("P")
R = TypeVar("R")


class ImageWorkerPool:
    """Processes with one image at a time each, so that a crash is attributed to its image.

    Args:
        count: number of processes.
        limits: arguments of `lhrs.serving.image_worker.prepare`.
    """

    def __init__(self, count: int, *limits: Any) -> None:
        self._limits, self._count = limits, count
        self._all: set[ProcessPoolExecutor] = set()
        self._free: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()
        for _ in range(count):
            self._free.put_nowait(self._start())

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would copy the model and its threads
        process = ProcessPoolExecutor(1, context, set_limits, self._limits)
        self._all.add(process)
        return process

    def _replace(self, broken: ProcessPoolExecutor) -> ProcessPoolExecutor:
        self._all.discard(broken)
        broken.shutdown(wait=False)
        return self._start()

    async def run(self, what: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of `lhrs.serving.image_worker` in a process of the pool.

        Raises:
            DataError: the image cannot be read, or not within the limits.
        """
        process, loop = await self._free.get(), asyncio.get_running_loop()
        try:
            future = process.submit(what, *args, **kwargs)
        except BrokenProcessPool:  # the process died while idle
            process = self._replace(process)
            future = process.submit(what, *args, **kwargs)

        def release(done: Future[R]) -> None:
            """Return the process to the pool when it is done, even if the client disconnected."""
            broken = isinstance(done.exception(), BrokenProcessPool)
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(self._give_back, process, broken)

        future.add_done_callback(release)
        inner = asyncio.wrap_future(future)
        inner.add_done_callback(lambda done: done.cancelled() or done.exception())  # mark the exception as retrieved
        try:
            return await asyncio.shield(inner)
        except BrokenProcessPool:
            raise DataError("the image takes too long, or too much memory, to decode.") from None

    def _give_back(self, process: ProcessPoolExecutor, broken: bool) -> None:
        self._free.put_nowait(self._replace(process) if broken else process)

    async def warm_up(self) -> None:
        """Wait until all processes have started."""
        await asyncio.gather(*(self.run(preload) for _ in range(self._count)))

    def close(self) -> None:
        """End the processes."""
        for process in self._all:
            process.shutdown(wait=False, cancel_futures=True)

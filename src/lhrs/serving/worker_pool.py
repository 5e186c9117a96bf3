"""A pool of processes that read images; one that hangs or dies fails its own request only."""

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
    """So many processes, each given one image at a time, so that whose image kills one is known.

    Args:
        count: processes.
        limits: arguments of `lhrs.serving.image_worker.prepare`.
    """

    def __init__(self, count: int, *limits: Any) -> None:
        self._limits, self._count = limits, count
        self._all: set[ProcessPoolExecutor] = set()
        self._free: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()
        for _ in range(count):
            self._free.put_nowait(self._start())

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would carry the model and its threads along
        process = ProcessPoolExecutor(1, context, set_limits, self._limits)
        self._all.add(process)
        return process

    def _replace(self, broken: ProcessPoolExecutor) -> ProcessPoolExecutor:
        self._all.discard(broken)
        broken.shutdown(wait=False)
        return self._start()

    async def run(self, what: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function of `lhrs.serving.image_worker` there.

        Raises:
            DataError: the image cannot be read, or not within the limits.
        """
        process, loop = await self._free.get(), asyncio.get_running_loop()
        try:
            future = process.submit(what, *args, **kwargs)
        except BrokenProcessPool:  # it died while idle
            process = self._replace(process)
            future = process.submit(what, *args, **kwargs)

        def release(done: Future[R]) -> None:
            """Give the process back when it is done, though who asked may be gone by then."""
            broken = isinstance(done.exception(), BrokenProcessPool)
            with suppress(RuntimeError):  # the server is gone
                loop.call_soon_threadsafe(self._give_back, process, broken)

        future.add_done_callback(release)
        inner = asyncio.wrap_future(future)
        inner.add_done_callback(lambda done: done.cancelled() or done.exception())  # so that it counts as seen
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

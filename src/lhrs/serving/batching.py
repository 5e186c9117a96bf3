"""Dynamic batching: one thread owns the model and answers queued requests in batches."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from lhrs.inference.runtime import Generation, Request, Runtime


class Job:
    """A queued request and its future reply.

    Args:
        request: the request.
        deadline: in `time.monotonic` time; the request is dropped after it.
        listen: receives the deltas of the answer, on the event loop.
    """

    def __init__(self, request: Request, deadline: float, listen: Callable[[str], object] | None = None) -> None:
        on_text = None if listen is None else partial(self._emit, listen)
        self.request, self.deadline = replace(request, on_text=on_text), deadline
        self.loop = asyncio.get_running_loop()
        self.reply: asyncio.Future[Generation] = self.loop.create_future()
        self.dropped = self.spoke = False

    def cancel(self) -> None:
        """Cancel the job, unless the model is already processing it."""
        self.dropped = True
        self.reply.cancel()

    def _emit(self, listen: Callable[[str], object], piece: str) -> None:
        self.spoke = True
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(listen, piece)

    def set_result(self, outcome: Generation | Exception) -> None:
        """Set the reply or the error; thread-safe."""
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(self._set_result, outcome)

    def _set_result(self, outcome: Generation | Exception) -> None:
        if self.reply.done():
            return
        if isinstance(outcome, Exception):
            self.reply.set_exception(outcome)
        else:
            self.reply.set_result(outcome)


class Batcher:
    """Answers jobs in batches, in order of arrival.

    Args:
        runtime: the model; no other thread may use it.
        batch_size: maximum number of jobs in a batch.
        wait_s: maximum time in seconds that a batch waits for announced jobs.
        observe: called with the size of each batch.
    """

    def __init__(
        self, runtime: Runtime, batch_size: int, wait_s: float, observe: Callable[[int], object] = lambda size: None
    ) -> None:
        self._runtime, self._batch_size, self._wait_s, self._observe = runtime, batch_size, wait_s, observe
        self._jobs: deque[Job] = deque()
        self._ready = threading.Condition()
        self._closed = False
        self.announced = 0
        """Number of announced jobs, whose images are being decoded."""
        self.batch_s = 0.1
        """Recent duration of a batch in seconds."""
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def close(self) -> None:
        """Stop the thread after all jobs are done."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            now = time.monotonic()
            wanted = [job for job in jobs if not job.dropped and job.deadline > now]
            for job in jobs:
                if job not in wanted:
                    job.set_result(TimeoutError())
            if wanted:
                self._observe(len(wanted))
                self._answer(wanted)
                self.batch_s += 0.2 * (time.monotonic() - now - self.batch_s)

    def _take(self) -> list[Job]:
        """Wait for jobs and return those of the next batch; none when closed."""
        with self._ready:
            while not self._jobs and not self._closed:
                self._ready.wait()
            until = time.monotonic() + self._wait_s
            while 0 < len(self._jobs) < self._batch_size and self.announced > 0 and not self._closed:
                if (left := until - time.monotonic()) <= 0:
                    break
                self._ready.wait(left)
            return [self._jobs.popleft() for _ in range(min(len(self._jobs), self._batch_size))]

    def _answer(self, jobs: list[Job]) -> None:
        try:
            replies = self._runtime.generate([job.request for job in jobs])
        except Exception as error:  # no exception may end the thread
            for job in jobs:  # one request caused the error: retry them one by one
                if len(jobs) == 1 or job.spoke:
                    job.set_result(error)
                else:
                    self._answer([job])
            return
        for job, reply in zip(jobs, replies, strict=True):
            job.set_result(reply)

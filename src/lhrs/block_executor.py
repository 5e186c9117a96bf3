"""Runs a pure function over blocks: in this process, in a pool of processes, or on a Ray cluster.

The rows of each block become one Parquet part. Parts that exist are not computed again, so stopped work resumes. Every
executor writes the same parts in the same order.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lhrs.atomic_io import atomic_write
from lhrs.errors import ConfigError
from lhrs.progress import Progress, no_progress

if TYPE_CHECKING:
    import pyarrow as pa

BlockT = TypeVar("BlockT")
Engine = Literal["local", "ray"]
Submit = Callable[[Callable[[Any], Any], Any], "Future[Any]"]
_BLOCKS_PER_WORKER = 2
"""Blocks in flight for each worker."""


def map_blocks(
    blocks: Sequence[BlockT],
    function: "Callable[[BlockT], pa.Table]",
    folder: Path,
    fingerprint: str,
    *,
    engine: Engine = "local",
    num_workers: int = 1,
    progress: Progress = no_progress,
    description: str = "blocks",
) -> list[Path]:
    """Return the Parquet parts in the order of the blocks.

    Args:
        blocks: the inputs; with several workers they and the function are pickled.
        function: returns the same rows for the same block, whenever and wherever it runs.
        folder: of the parts.
        fingerprint: of everything that the rows depend on except the number of the block. A part with another
            fingerprint is not used.
        engine: `ray` uses the cluster of RAY_ADDRESS, or starts one on this machine. All its machines must see the
            files that the blocks name.
        num_workers: processes, or Ray tasks at a time.
        progress: counts blocks.
        description: of the progress.

    Raises:
        ConfigError: Ray is not installed.
    """
    parts = [folder / f"{n:06d}-{fingerprint}.parquet" for n in range(len(blocks))]
    missing = [n for n, part in enumerate(parts) if not part.exists()]
    with progress(description, len(parts)) as bar:
        bar.update(len(parts) - len(missing))
        for n, table in _compute(blocks, missing, function, engine, num_workers):
            _write_part(table, parts[n])
            bar.update()
    return parts


def _write_part(table: "pa.Table", path: Path) -> None:
    import pyarrow.parquet as pq

    with atomic_write(path) as part:
        pq.write_table(table, part, compression="zstd", compression_level=3)


def _compute(
    blocks: Sequence[BlockT],
    missing: Sequence[int],
    function: "Callable[[BlockT], pa.Table]",
    engine: Engine,
    num_workers: int,
) -> "Iterator[tuple[int, pa.Table]]":
    """Yield number and rows of each missing block as they are completed."""
    is_serial = engine == "local" and (num_workers <= 1 or len(missing) <= 1)
    limit = 1 if is_serial else _BLOCKS_PER_WORKER * num_workers
    opened = _serial() if is_serial else _process_pool(num_workers) if engine == "local" else _ray_tasks(num_workers)
    with opened as submit:
        waiting = list(reversed(missing))
        running: dict[Future[Any], int] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                n = waiting.pop()
                running[submit(function, blocks[n])] = n
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


@contextmanager
def _serial() -> Iterator[Submit]:
    def submit(function: Callable[[Any], Any], block: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(function(block))
        return future

    yield submit


@contextmanager
def _process_pool(num_workers: int) -> Iterator[Submit]:
    # Spawned, not forked: threads of libraries do not survive a fork.
    pool = ProcessPoolExecutor(num_workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool.submit
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ray_tasks(num_workers: int) -> Iterator[Submit]:
    with _ray_cluster(num_workers) as ray:
        task: Any = ray.remote(num_cpus=1)(lambda function, block: function(block))
        yield lambda function, block: task.remote(function, block).future()


@contextmanager
def _ray_cluster(num_workers: int) -> Iterator[Any]:
    """Use the cluster of RAY_ADDRESS, or start one on this machine and stop it afterwards."""
    if "RAY_ADDRESS" not in os.environ:
        # Local workers use this environment; under `uv run` Ray would copy the whole environment for them.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray needs the extra `ray`: pip install 'lhrs[ray]'") from None
    must_start = not ray.is_initialized()
    if must_start:
        address = os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {} if address else {"num_cpus": num_workers, "include_dashboard": False}
        ray.init(address, log_to_driver=False, **local)
    try:
        yield ray
    finally:
        if must_start:
            ray.shutdown()


@contextmanager
def ray_actor_pool(
    make: Callable[[], Any], num_workers: int, num_gpus: float = 0
) -> "Iterator[Callable[[str, list], list]]":
    """Start actors on a Ray cluster, each with what `make` returns there, and stop them afterwards.

    Args:
        make: called once on each actor, for example to load a model.
        num_workers: number of actors.
        num_gpus: of each actor.

    Yields:
        A function that calls a method by name for each of a list of arguments, spread over the actors, and returns
        the results in the order of the arguments.

    Raises:
        ConfigError: Ray is not installed.
    """

    class Holder:
        def __init__(self) -> None:
            self.value = make()

        def call(self, method: str, argument: Any) -> Any:
            return getattr(self.value, method)(argument)

    with _ray_cluster(num_workers) as ray:
        from ray.util import ActorPool

        actor: Any = ray.remote(num_cpus=1, num_gpus=num_gpus)(Holder)
        pool = ActorPool([actor.remote() for _ in range(num_workers)])
        yield lambda method, arguments: list(pool.map(lambda a, argument: a.call.remote(method, argument), arguments))

"""Work in blocks: a pure function from a block to rows, run one after another, in processes, or on a Ray cluster.

Each block's rows become one Parquet part, written under a temporary name and renamed. Parts that are there are not
made again, so that work that was stopped goes on; every engine gives the same parts, in the same order.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lhrs.errors import ConfigError
from lhrs.files import written_whole

if TYPE_CHECKING:
    import pyarrow as pa

BlockT = TypeVar("BlockT")
Engine = Literal["local", "ray"]
_AHEAD = 2
"""Blocks per worker that are in flight."""


def run_blocks(
    blocks: Sequence[BlockT],
    function: "Callable[[BlockT], pa.Table]",
    folder: Path,
    key: str,
    engine: Engine = "local",
    workers: int = 1,
    done: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Return the parts, in the order of the blocks.

    Args:
        blocks: what is worked on; the function and they are pickled where there are several workers.
        function: must give the same rows for the same block, whenever and wherever it runs.
        folder: of the parts.
        key: of everything that the rows depend on besides the block's number; parts of another key are made anew.
        engine: `ray` uses the cluster that RAY_ADDRESS names, or starts one on this machine; the files that blocks
            name must be there on all its machines.
        workers: processes, or tasks at a time.
        done: called after each block.

    Raises:
        ConfigError: Ray is not installed.
    """
    mark = hashlib.sha256(key.encode()).hexdigest()[:12]
    parts = [folder / f"{n:06d}-{mark}.parquet" for n in range(len(blocks))]
    missing = [n for n, part in enumerate(parts) if not part.exists()]
    for _ in range(len(parts) - len(missing)):
        done()
    run = _ray if engine == "ray" else _serial if workers <= 1 or len(missing) <= 1 else _pool
    for n, table in run(blocks, missing, function, workers):
        write_part(table, parts[n])
        done()
    return parts


def write_part(table: "pa.Table", path: Path) -> None:
    """Write rows under a temporary name and rename."""
    import pyarrow.parquet as pq

    with written_whole(path) as part:
        pq.write_table(table, part, compression="zstd", compression_level=3)


def _serial(
    blocks: Sequence[BlockT], missing: Sequence[int], function: "Callable[[BlockT], pa.Table]", workers: int
) -> "Iterator[tuple[int, pa.Table]]":
    for n in missing:
        yield n, function(blocks[n])


def _pool(
    blocks: Sequence[BlockT], missing: Sequence[int], function: "Callable[[BlockT], pa.Table]", workers: int
) -> "Iterator[tuple[int, pa.Table]]":
    # Not forked: threads of libraries do not survive that.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = list(reversed(missing))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _AHEAD * workers:
                    n = waiting.pop()
                    running[pool.submit(function, blocks[n])] = n
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ray(
    blocks: Sequence[BlockT], missing: Sequence[int], function: "Callable[[BlockT], pa.Table]", workers: int
) -> "Iterator[tuple[int, pa.Table]]":
    with _cluster(workers) as ray:
        task: Any = ray.remote(num_cpus=1)(lambda block: function(block))
        waiting = list(reversed(missing))
        running: dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < _AHEAD * workers:
                n = waiting.pop()
                running[task.remote(blocks[n])] = n
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                yield running.pop(reference), ray.get(reference)


@contextmanager
def _cluster(workers: int) -> Iterator[Any]:
    """Use the cluster that RAY_ADDRESS names, or start one on this machine and stop it afterwards."""
    if "RAY_ADDRESS" not in os.environ:
        # On this machine workers run in this environment; under `uv run` Ray would make a copy of all of it for them.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError("--engine ray needs the extra `ray`: pip install 'lhrs[ray]'") from None
    started = not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        alone: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
        ray.init(address, log_to_driver=False, **alone)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


@contextmanager
def ray_actors(make: Callable[[], Any], workers: int, num_gpus: float = 0) -> "Iterator[Callable[[str, list], list]]":
    """Start actors on a Ray cluster, each with what `make` returns there, and stop them afterwards.

    Args:
        make: called once on each actor, such as to load a model.
        workers: how many.
        num_gpus: that each needs.

    Yields:
        A function that calls a method by name for each of a list of arguments, spread over the actors, and returns
        the results in the order of the arguments.

    Raises:
        ConfigError: Ray is not installed.
    """

    class Holder:
        def __init__(self) -> None:
            self.held = make()

        def call(self, method: str, argument: Any) -> Any:
            return getattr(self.held, method)(argument)

    with _cluster(workers) as ray:
        from ray.util import ActorPool

        actor: Any = ray.remote(num_cpus=1, num_gpus=num_gpus)(Holder)
        pool = ActorPool([actor.remote() for _ in range(workers)])
        yield lambda method, given: list(pool.map(lambda one, argument: one.call.remote(method, argument), given))

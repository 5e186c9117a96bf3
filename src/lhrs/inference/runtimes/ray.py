"""A runtime with copies of one model on the workers of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lhrs.block_executor import ray_actor_pool
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.options import ModelOptions
from lhrs.inference.runtime import Generation, Request, Runtime


class _Copy:
    """The actor of each worker."""

    def __init__(self, model: str, device: str | None, options: ModelOptions) -> None:
        from lhrs.inference.load import load

        self.runtime = load(model, device, options).runtime

    def about(self, _: None) -> tuple[str, ModelFamily, float | None]:
        return self.runtime.name, self.runtime.family, self.runtime.ood_threshold

    def generate(self, requests: Sequence[Request]) -> list[Generation]:
        return self.runtime.generate(requests)

    def ood_score(self, pixels: np.ndarray) -> float | None:
        return self.runtime.ood_score(pixels)


class RayRuntime:
    """See `Runtime`. Requests are sent to the workers in batches; generations are returned in order.

    Args:
        call: of `lhrs.block_executor.ray_actor_pool`, whose actors hold copies of one model.
        batch_size: requests that a worker takes at once.
    """

    def __init__(self, call: Callable[[str, list[Any]], list[Any]], batch_size: int) -> None:
        self._call, self._batch_size = call, batch_size
        ((self.name, self.family, self.ood_threshold),) = call("about", [None])

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`; the text is not streamed."""
        size = self._batch_size
        parts = self._call("generate", [requests[n : n + size] for n in range(0, len(requests), size)])
        replies = [reply for part in parts for reply in part]
        if on_text is not None:
            on_text(replies[0].text)
        return replies

    def ood_score(self, pixels: np.ndarray) -> float | None:
        """See `Runtime.ood_score`."""
        (score,) = self._call("ood_score", [pixels])
        return score


@contextmanager
def ray_runtime(
    model: str,
    workers: int,
    batch_size: int,
    device: str | None = None,
    options: ModelOptions = ModelOptions(),  # noqa: B008 (frozen)
) -> Iterator[Runtime]:
    """Load a model on each worker of a Ray cluster.

    Args:
        model: see `lhrs.load`; a folder must be there on all machines.
        workers: copies of the model.
        batch_size: requests that a worker takes at once.
        device: see `lhrs.load`; with `cuda` each worker asks the cluster for a GPU of its own.
        options: see `lhrs.load`.

    Raises:
        ConfigError: Ray is not installed.
    """
    gpus = 1 if device is not None and device.startswith("cuda") else 0
    with ray_actor_pool(lambda: _Copy(model, device, options), workers, gpus) as call:
        yield RayRuntime(call, batch_size)

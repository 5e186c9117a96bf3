"""`lhrs train RUN.yaml --check`: the data, the first sample and the memory of a run, without training."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from lhrs.training.memory import estimate_weights
from lhrs.training.recipe import Recipe
from lhrs.training.run_config import OptimConfig
from lhrs.training.trainer import split_batch


def check_recipe(recipe: Recipe[Any]) -> Iterator[str]:
    """Yield lines about a run of any kind: its data, the first sample as tensors, its memory without activations.

    Raises:
        ConfigError: a setting contradicts the data.
        DataError: data is missing or broken.
    """
    config = recipe.config
    fingerprints = recipe.open_data()
    torch.manual_seed(config.seed)
    module = recipe.build()
    dataset, _ = recipe.dataset()
    yield f"run      {config.kind}, to {config.output_dir}"
    yield f"data     {len(dataset):,} samples, {len(fingerprints):,} files and labels"
    yield from length_lines(recipe.optim, len(dataset))
    yield "first sample"
    yield from (f"  {line}" for line in _describe(dataset[0, 0]))
    yield from estimate_weights(module, recipe.optim, lambda name: 4).lines()


def length_lines(optim: OptimConfig, num_samples: int) -> Iterator[str]:
    """Yield lines about the steps of a run.

    Raises:
        ConfigError: the batch does not divide among processes and micro-batches.
    """
    micro, accumulated = split_batch(optim.batch_size, optim.micro_batch_size)
    epochs = optim.epochs or (optim.steps or 0) * optim.batch_size / num_samples
    steps = optim.steps or math.ceil(epochs * num_samples / optim.batch_size)
    yield (
        f"steps    {steps:,} of {optim.batch_size} samples, {epochs:.2f} epochs; "
        f"here {accumulated} x {micro} samples per step and process"
    )
    at_once = optim.batch_size // accumulated
    if num_samples < at_once:
        yield f"note     the data has {num_samples:,} samples, fewer than one batch of {at_once}: training refuses it"


def _describe(value: Any, name: str = "") -> Iterator[str]:
    """Yield names, shapes and types of what a dataset returns."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _describe(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping | torch.Tensor) for inner in value):
        for n, inner in enumerate(value):
            yield from _describe(inner, f"{name}[{n}]")
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        yield f"{name}: {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    else:
        text = repr(value)
        yield f"{name}: {text if len(text) <= 100 else text[:100] + ' ...'}"

"""One training run from its settings to its model, and what differs between the kinds of training."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import PartialState
from torch import nn
from transformers import Trainer, TrainerCallback

from lhrs.training.freeze import print_trainable
from lhrs.training.optim import make_groups, make_optimizer, make_schedule
from lhrs.training.run_config import OptimConfig, RunConfig
from lhrs.training.run_dir import RunRecord, init_run_dir, is_main_process, mark_finished, newest_checkpoint, should_run
from lhrs.training.trainer import Trainer as LHRSTrainer
from lhrs.training.trainer import run_trainer, training_arguments

ConfigT = TypeVar("ConfigT", bound=RunConfig)

MODEL = "model"
"""Folder of the result inside the output folder."""


class Recipe(ABC, Generic[ConfigT]):
    """One kind of training: data, module, parameter groups and result. `run` calls the methods, in its order.

    Args:
        config: the run file.
    """

    optim: OptimConfig
    betas: Mapping[str, Sequence[float]] = {"adan": (0.98, 0.92, 0.99), "adamw": (0.9, 0.999)}
    """Default betas by optimizer."""
    arguments: Mapping[str, Any] = {}
    """Further `transformers.TrainingArguments`."""

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abstractmethod
    def open_data(self) -> dict[str, str]:
        """Open the data and return its fingerprints, see `lhrs.training.data_fingerprint`.

        Raises:
            ConfigError: a setting contradicts the data.
            DataError: data is missing or broken.
        """

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the module to train; its `forward` returns `{"loss", ...}`.

        Raises:
            CheckpointError: weights do not fit.
            ConfigError: a setting is wrong.
        """

    @abstractmethod
    def dataset(self) -> tuple[Any, Callable[..., Any]]:
        """Return the dataset, which is indexed by `(epoch, index)`, and the function that collates its samples."""

    @abstractmethod
    def save(self, trainer: Trainer, state: Any) -> None:
        """Write the result on the main process; `state` is what `collect` returned."""

    def param_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups."""
        return make_groups(module, self.optim.weight_decay, ())

    @property
    def peak_lr(self) -> float:
        """Learning rate after the warm-up."""
        return self.optim.lr

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of a module."""
        betas = self.betas.get(self.optim.optimizer, ())
        return make_optimizer(self.param_groups(module), self.optim, self.peak_lr, betas)

    def schedule(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the learning rate schedule."""
        return make_schedule(optimizer, self.optim, num_steps)

    def details(self) -> dict[str, Any]:
        """Return the information for later runs that is stored in `run.json`."""
        return {}

    def callbacks(self, trainer: Trainer) -> list[TrainerCallback]:
        """Return callbacks; called after the trainer has moved the module to its device."""
        return []

    def prepare(self, trainer: Trainer, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the module's inputs of a batch on the device."""
        return inputs

    def metrics(self, trainer: Trainer, means: dict[str, float]) -> dict[str, float]:
        """Return additional values to log, from the means of the module's other outputs since the last log."""
        return {f"loss_{name}": value for name, value in means.items()}

    def collect(self, trainer: Trainer) -> Any:
        """Return the state for `save`; all processes call this."""
        return None

    def module_of(self, name: str) -> str:
        """Return the part of the module that a parameter belongs to, for the table of trainable parameters."""
        return name.split(".")[0].rstrip("_")

    @property
    def model_dir(self) -> Path:
        """Folder of the result."""
        return self.config.output_dir / MODEL


def run(recipe: Recipe[Any]) -> None:
    """Train, from the newest checkpoint if there is one. A finished run is not repeated.

    Raises:
        ConfigError: the run contradicts itself, or its folder contains another run or one with other data.
        DataError: data is missing or broken.
        CheckpointError: weights do not fit.
    """
    config = recipe.config
    data = recipe.open_data()
    if not should_run(config, data):
        return
    torch.manual_seed(config.seed)
    module = recipe.build()
    dataset, collate = recipe.dataset()
    arguments = training_arguments(config, recipe.optim, len(dataset), recipe.peak_lr, **recipe.arguments)
    record = RunRecord(kind=config.kind, details=recipe.details())
    trainer = LHRSTrainer(recipe, module, arguments, dataset, collate)
    callbacks = recipe.callbacks(trainer)
    init_run_dir(config, record, data)
    print_trainable(module, recipe.module_of)
    for callback in callbacks:
        trainer.add_callback(callback)
    run_trainer(trainer, newest_checkpoint(config.output_dir))
    state = recipe.collect(trainer)
    if is_main_process():
        recipe.save(trainer, state)
        mark_finished(config.output_dir, record)
    PartialState().wait_for_everyone()  # the others must not exit while the main process writes

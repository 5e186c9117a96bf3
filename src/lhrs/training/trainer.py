"""transformers' Trainer as every recipe uses it.

Order and randomness come from (seed, position) only (`lhrs.data.deterministic`), so a run that was killed and
resumed ends with the same weights as one that was not.
"""

import math
import os
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import Sampler
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers import Trainer as TransformersTrainer
from transformers.integrations import TensorBoardCallback

from lhrs.data.deterministic import DeterministicSampler, SampleKey, group_by_length, seed_step
from lhrs.errors import CheckpointError, ConfigError
from lhrs.models.state_dict import read_safetensors
from lhrs.training.callbacks import LogEarly, ShowProgress
from lhrs.training.fsdp import load_state_dict_sharded, shard_on_cpu
from lhrs.training.run_config import OptimConfig, RunConfig

if TYPE_CHECKING:
    from lhrs.training.recipe import Recipe

_CHECKPOINTS_KEPT = 2
"""One more than needed, in case the newest was being written when the run was killed."""


class SeedEachStep(TrainerCallback):
    """Seed torch before every optimizer step, so that dropout and router noise depend on (seed, step) alone.

    Processes have different seeds; the seed of the first is that of a single process.
    """

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        seed_step(args.seed + 1_000_003 * args.process_index, state.global_step)


class WeightedLengthSampler(DeterministicSampler):
    """Weighted sampling without replacement, in batches of similar length; a pure function of (seed, epoch).

    Args:
        weights: sampling weights; larger weights come earlier (Efraimidis and Spirakis 2006).
        seed: seed of the order.
        lengths: lengths by which samples are grouped; None does not group.
        batch_size: items per optimizer step, for grouping.
    """

    def __init__(self, weights: np.ndarray, seed: int, lengths: np.ndarray | None, batch_size: int) -> None:
        super().__init__(len(weights), seed)
        self.weights, self.lengths, self.batch_size = weights, lengths, batch_size

    def __iter__(self) -> Iterator[SampleKey]:
        waits = np.random.default_rng([self.seed, self.epoch]).exponential(size=self.size) / self.weights
        order = np.argsort(waits, kind="stable")
        if self.lengths is not None:
            rng = np.random.default_rng([self.seed, self.epoch, 1])
            order = group_by_length(order, self.lengths, self.batch_size, rng)
        return ((self.epoch, int(i)) for i in order)


class Trainer(TransformersTrainer):
    """Runs a recipe. Its dataset is indexed by `(epoch, index)` keys and may have `weights` and `lengths`, or
    `groups` that every batch has in the same proportions.

    Args:
        recipe: decides parameter groups, inputs and what is logged.
        module: returns `{"loss", ...}`; its other scalars are averaged and logged.
        arguments: see `training_arguments`.
        dataset: to train on.
        collate: makes a batch of samples.
    """

    def __init__(
        self,
        recipe: "Recipe[Any]",
        module: nn.Module,
        arguments: TrainingArguments,
        dataset: Any,
        collate: Callable[..., Any],
    ) -> None:
        super().__init__(model=module, args=arguments, train_dataset=dataset, data_collator=collate)
        self.recipe, self.module = recipe, module
        self.model_accepts_loss_kwargs = getattr(module, "accepts_loss_kwargs", False)
        self._sums: dict[str, torch.Tensor] = {}
        self._batches = 0
        self.add_callback(SeedEachStep())
        self.add_callback(LogEarly())

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            shard_on_cpu(self)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        self.optimizer = self.recipe.optimizer(cast(nn.Module, self.model))
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        target = optimizer or cast(torch.optim.Optimizer, self.optimizer)
        scheduler = self.recipe.schedule(target, num_training_steps)
        self.lr_scheduler: Any = scheduler
        self._created_lr_scheduler = True
        return scheduler

    def compute_loss(
        self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = self.recipe.prepare(self, inputs)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        for name, value in outputs.items():
            if name != "loss" and (total := torch.as_tensor(value).detach()).ndim == 0:
                self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._batches += 1
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, and check the loss only here, where it has been copied from the device anyway.

        Raises:
            ConfigError: the loss is not finite.
        """
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise divergence_error(self.state.global_step)
            means = {name: float(total) / self._batches for name, total in self._sums.items()}
            logs.update(self.recipe.metrics(self, means))
            self._sums, self._batches = {}, 0
        super().log(logs, *args, **kwargs)

    def log_extra(self, logs: dict[str, float]) -> None:
        """Log from a callback; transformers would take it for the step's own log and skip that."""
        due = self.control.should_log
        self.log(logs)
        self.control.should_log = due

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        size = len(cast(Sized, dataset))
        weights, lengths = (getattr(dataset, name, None) for name in ("weights", "lengths"))
        if lengths is None and (weights is None or (weights == weights[0]).all()):
            return DeterministicSampler(size, self.args.seed, getattr(dataset, "groups", None))
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return WeightedLengthSampler(np.ones(size) if weights is None else weights, self.args.seed, lengths, per_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            state = read_safetensors(Path(resume_from_checkpoint) / "model.safetensors")
            self._issue_warnings_after_load(load_state_dict_sharded(cast(nn.Module, model or self.model), state))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse a checkpoint that lacks a trained parameter; frozen weights are not in it and come from elsewhere."""
        trained = {name for name, p in cast(Any, self.model).named_parameters() if p.requires_grad}
        wrong = sorted(trained & set(load_result.missing_keys)) + sorted(load_result.unexpected_keys)
        if wrong:
            raise CheckpointError(
                f"the checkpoint in {self.args.output_dir} is of another run ({wrong[0]}); choose another `output_dir`."
            )


def divergence_error(step: int) -> ConfigError:
    """Return the error of a run whose loss or weights are not finite."""
    return ConfigError(f"the loss is not finite at step {step}: lower `optim.lr`, or set `optim.max_grad_norm`.")


def split_batch(batch_size: int, micro_batch_size: int | None) -> tuple[int, int]:
    """Return the micro-batch size of a process, and the number of micro-batches per step.

    Args:
        batch_size: samples per optimizer step over all processes.
        micro_batch_size: samples per forward pass of a process; None is the process's part of the batch.

    Raises:
        ConfigError: the batch does not divide into processes and micro-batches.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    per_process, rest = divmod(batch_size, processes)
    if rest or not per_process:
        raise ConfigError(f"optim.batch_size {batch_size} does not divide among {processes} processes.")
    micro = micro_batch_size or per_process
    if per_process % micro:
        raise ConfigError(
            f"a process's {per_process} samples per step do not divide into optim.micro_batch_size {micro}."
        )
    return micro, per_process // micro


def training_arguments(
    config: RunConfig, optim: OptimConfig, num_samples: int, lr: float, **further: Any
) -> TrainingArguments:
    """Return transformers' arguments of a run.

    Args:
        config: the run.
        optim: its optimizer settings.
        num_samples: size of the data.
        lr: learning rate after the warm-up.
        further: further arguments.

    Raises:
        ConfigError: the batch does not divide into processes and micro-batches, or there is less data than one batch.
    """
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    micro, accumulation = split_batch(optim.batch_size, optim.micro_batch_size)
    length = {"num_train_epochs": optim.epochs} if optim.steps is None else {"max_steps": optim.steps}
    arguments: dict[str, Any] = {
        "output_dir": str(config.output_dir),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": lr,
        "max_grad_norm": optim.max_grad_norm,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,  # it would synchronize with the device at every step, and log another value
        "logging_first_step": True,
        "save_steps": config.save_steps,
        "save_total_limit": _CHECKPOINTS_KEPT,
        "seed": config.seed,
        "use_cpu": config.device == "cpu",
        "bf16": config.bf16,
        "dataloader_num_workers": config.num_workers,
        "dataloader_drop_last": True,  # a short last batch would be filled up differently on several processes
        "remove_unused_columns": False,
        "report_to": "none",  # TensorBoard is added by `run_trainer`
        "disable_tqdm": True,
        **length,
        **further,
    }
    try:
        training_args = TrainingArguments(**arguments)
    except ValueError as error:  # such as bf16 on a GPU that cannot
        raise ConfigError(f"these settings cannot be combined here: {' '.join(str(error).split())}") from error
    at_once = training_args.per_device_train_batch_size * training_args.world_size
    if num_samples < at_once:
        raise ConfigError(f"the data has {num_samples} samples, fewer than one batch of {at_once}.")
    return training_args


def run_trainer(trainer: Trainer, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint if there is one.

    Raises:
        CheckpointError: the checkpoint is of another run.
    """
    trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        writer = SummaryWriter(str(Path(str(trainer.args.output_dir)) / "tensorboard"))
        trainer.add_callback(TensorBoardCallback(writer))
        trainer.add_callback(ShowProgress())
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

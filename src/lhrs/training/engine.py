"""transformers' Trainer, set up once for every kind of training in lhrs.

Order and randomness come from (seed, position) only (`lhrs.data.keyed`), so a run that was killed and resumed ends
with the same weights as one that was not.
"""

import json
import math
import os
import zipfile
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Sampler
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from lhrs.data.keyed import Key, KeyedSampler, group_by_length, seed_step
from lhrs.errors import CheckpointError, ConfigError
from lhrs.training.base import Run
from lhrs.training.callbacks import ShowProgress

_CHECKPOINTS_KEPT = 2
"""One more than needed, in case the newest was being written when the run was killed."""


class StepSeed(TrainerCallback):
    """Seed torch before every optimizer step, so that dropout and router noise depend on (seed, step) alone.

    Processes draw different noise; the first one draws what a single process would.
    """

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        seed_step(args.seed + 1_000_003 * args.process_index, state.global_step)


class OrderedKeyedSampler(KeyedSampler):
    """Likelier items earlier, and batches of similar length; a pure function of (seed, epoch).

    Args:
        weights: draw without replacement with these (Efraimidis and Spirakis 2006).
        seed: of the order.
        lengths: group by them; None does not.
        batch_size: items per optimizer step, for grouping.
    """

    def __init__(self, weights: np.ndarray, seed: int, lengths: np.ndarray | None, batch_size: int) -> None:
        super().__init__(len(weights), seed)
        self.weights, self.lengths, self.batch_size = weights, lengths, batch_size

    def __iter__(self) -> Iterator[Key]:
        waits = np.random.default_rng([self.seed, self.epoch]).exponential(size=self.size) / self.weights
        order = np.argsort(waits, kind="stable")
        if self.lengths is not None:
            rng = np.random.default_rng([self.seed, self.epoch, 1])
            order = group_by_length(order, self.lengths, self.batch_size, rng)
        return ((self.epoch, int(i)) for i in order)


class KeyedTrainer(Trainer):
    """Trainer whose dataset is asked for `(epoch, index)` keys; a dataset may carry `weights` and `lengths`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(StepSeed())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        size = len(cast(Sized, dataset))
        weights, lengths = (getattr(dataset, name, None) for name in ("weights", "lengths"))
        if lengths is None and (weights is None or (weights == weights[0]).all()):
            return KeyedSampler(size, self.args.seed)
        per_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return OrderedKeyedSampler(np.ones(size) if weights is None else weights, self.args.seed, lengths, per_step)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log; look at the loss only here, where it has come from the device anyway.

        Raises:
            ConfigError: it is no number any more.
        """
        if not math.isfinite(logs.get("loss", 0.0)):
            raise diverged(self.state.global_step)
        super().log(logs, *args, **kwargs)

    def log_beside(self, logs: dict[str, float]) -> None:
        """Log numbers from a callback; transformers would take them for the step's own log and leave that out."""
        due = self.control.should_log
        self.log(logs)
        self.control.should_log = due

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse a checkpoint without all that is trained; frozen weights are not in it and come from elsewhere."""
        trained = {name for name, p in cast(Any, self.model).named_parameters() if p.requires_grad}
        wrong = sorted(trained & set(load_result.missing_keys)) + sorted(load_result.unexpected_keys)
        if wrong:
            raise CheckpointError(
                f"the checkpoint in {self.args.output_dir} is of another run ({wrong[0]}); choose another `out`."
            )


def diverged(step: int) -> ConfigError:
    """Return what to say of a run that learns nothing any more."""
    return ConfigError(f"the loss is no number any more at step {step}: lower the rate, or clip gradients.")


def split_batch(batch_size: int, micro_batch_size: int | None) -> tuple[int, int]:
    """Return how many samples a process takes at once, and how often it does so in a step.

    Args:
        batch_size: samples per optimizer step over all processes.
        micro_batch_size: samples that a process takes at once; None takes its whole share.

    Raises:
        ConfigError: the batch does not divide into processes and micro-batches.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))
    share, rest = divmod(batch_size, processes)
    if rest or not share:
        raise ConfigError(f"fit.batch_size {batch_size} does not divide among {processes} processes.")
    micro = micro_batch_size or share
    if share % micro:
        raise ConfigError(f"a process's {share} samples per step do not divide into fit.micro_batch_size {micro}.")
    return micro, share // micro


def training_arguments(run: Run, batch_size: int, micro_batch_size: int | None, **settings: Any) -> TrainingArguments:
    """Return the arguments that all kinds of training share.

    Args:
        run: the run.
        batch_size: samples per optimizer step over all processes.
        micro_batch_size: samples that a process takes at once; None takes its whole share.
        settings: further arguments; they win.

    Raises:
        ConfigError: the batch does not divide into processes and micro-batches.
    """
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    micro, times = split_batch(batch_size, micro_batch_size)
    common: dict[str, Any] = {
        "output_dir": str(run.out),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": times,
        "logging_steps": run.log_every,
        "logging_nan_inf_filter": False,  # it would wait for the device at every step, and log another number
        "logging_first_step": True,
        "save_steps": run.save_every,
        "save_total_limit": _CHECKPOINTS_KEPT,
        "seed": run.seed,
        "use_cpu": run.cpu,
        "bf16": run.bf16,
        "dataloader_num_workers": run.workers,
        "dataloader_drop_last": True,  # a short last batch would be filled up differently on several processes
        "remove_unused_columns": False,
        "report_to": "none",  # TensorBoard is added by `fit`
        "disable_tqdm": True,
    }
    try:
        return TrainingArguments(**{**common, **settings})
    except ValueError as error:  # such as bf16 on a GPU that cannot
        raise ConfigError(f"these settings do not go together here: {' '.join(str(error).split())}") from error


def fit(trainer: KeyedTrainer) -> SummaryWriter | None:
    """Train to the end, from the newest complete checkpoint in the output folder if there is one.

    Raises:
        ConfigError: there is less data than one batch.
        CheckpointError: the checkpoint is of another run.
    """
    args = trainer.args
    num_samples = len(cast(Sized, trainer.train_dataset))
    per_epoch_step = args.per_device_train_batch_size * args.world_size
    if num_samples < per_epoch_step:
        raise ConfigError(f"the data has {num_samples} samples, fewer than one batch of {per_epoch_step}.")
    trainer.remove_callback(PrinterCallback)
    writer = None
    if trainer.is_world_process_zero():
        writer = SummaryWriter(str(Path(str(args.output_dir)) / "tensorboard"))
        trainer.add_callback(TensorBoardCallback(writer))
        trainer.add_callback(ShowProgress())
    checkpoint = newest_checkpoint(Path(str(args.output_dir)))
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return writer


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end, or None.

    The Trainer writes its state last, so a checkpoint whose state reads as JSON is whole, but for what the other
    processes write: the states of their random numbers.
    """
    found = [(int(p.name.split("-")[1]), p) for p in folder.glob("checkpoint-*") if p.name.split("-")[1].isdecimal()]
    return next((path for _, path in sorted(found, reverse=True) if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return all(zipfile.is_zipfile(file) for file in checkpoint.glob("rng_state*.pth"))

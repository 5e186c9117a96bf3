"""transformers' Trainer, set up once for every kind of training in lhrs.

Order and randomness come from (seed, position) only (`lhrs.data.keyed`), so a run that was killed and resumed ends
with the same weights as one that was not.
"""

from collections.abc import Sized
from typing import Any, cast

from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.data.keyed import KeyedSampler, seed_step


class StepSeed(TrainerCallback):
    """Seed torch before every optimizer step, so that dropout and router noise depend on (seed, step) alone."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        seed_step(args.seed, state.global_step)


class KeyedTrainer(Trainer):
    """Trainer whose dataset is asked for `(epoch, index)` keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_callback(StepSeed())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return KeyedSampler(
            len(train_dataset if train_dataset is not None else cast(Sized, self.train_dataset)), self.args.seed
        )

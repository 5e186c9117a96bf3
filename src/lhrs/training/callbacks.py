"""Callbacks that show progress and generations during a run."""

import json
import sys
import time
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.atomic_io import write_atomic
from lhrs.data.chat_dataset import ChatDataset
from lhrs.errors import ImageError
from lhrs.models.modeling import LHRSForConditionalGeneration

_EARLY_STEPS = (2, 5, 10, 20)
"""Steps that are logged in addition to the first, and to every `logging_steps`."""


class LogEarly(TrainerCallback):
    """Log some of the first steps, so that a wrong setting shows before `logging_steps` have passed."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        control.should_log = control.should_log or state.global_step in _EARLY_STEPS


class ShowProgress(TrainerCallback):
    """A bar on stderr with the last loss; where stderr is no terminal, a line whenever something is logged.

    Both have an estimate of the remaining time.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._since = (0, 0.0)
        """A step, and the time at its end."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._since = (state.global_step, time.monotonic())
        if state.global_step:
            print(f"resuming from step {state.global_step} of {state.max_steps}", file=sys.stderr)
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("training", total=state.max_steps, completed=state.global_step)
            self._bar.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if self._bar is not None:
            self._bar.update(self._task, description=f"loss {float(logs['loss']):.4f}")
            return
        numbers = " ".join(f"{name}={float(value):.4g}" for name, value in logs.items())
        step, then = self._since
        now, left = time.monotonic(), state.max_steps - state.global_step
        seconds = (now - then) / max(state.global_step - step, 1)
        print(
            f"step {state.global_step}/{state.max_steps} {numbers} ({seconds:.2g} s a step, about "
            f"{format_duration(seconds * left)} left)",
            file=sys.stderr,
        )
        if state.global_step == step + 1:  # the first step is slower than the others
            self._since = (state.global_step, now)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def format_duration(seconds: float) -> str:
    """Return a duration in words, such as `3 h 20 min` or `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


class LogGenerations(TrainerCallback):
    """Log the model's answers to the first samples of the data every few steps.

    Answers are written to `samples.jsonl` and to TensorBoard. Decoding is greedy and uses no random numbers, so the
    trained weights do not depend on it.

    Args:
        model: the unwrapped model.
        data: source of the samples.
        out: the run's folder.
        every: optimizer steps between generations.
        num: number of samples.
        max_new_tokens: maximum number of tokens of an answer.
    """

    def __init__(
        self,
        model: LHRSForConditionalGeneration,
        data: ChatDataset,
        out: Path,
        every: int,
        num: int,
        max_new_tokens: int,
    ) -> None:
        self._model, self._data, self._path = model, data, out / "samples.jsonl"
        self._every, self._num, self._max_new_tokens = every, min(num, len(data)), max_new_tokens
        self._writer: SummaryWriter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if not state.is_world_process_zero:
            return
        self._writer = SummaryWriter(str(self._path.parent / "tensorboard"), filename_suffix=".samples")
        if self._path.exists():  # lines that a killed run wrote after its last checkpoint are written again
            lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            write_atomic(self._path, "".join(kept))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        due = state.global_step % self._every == 0 or state.global_step == state.max_steps
        if not due or not state.is_world_process_zero:
            return
        training = {module: module.training for module in self._model.modules()}
        self._model.eval()
        rows = [row for index in range(self._num) if (row := self._ask(index, state.global_step)) is not None]
        for module, mode in training.items():
            module.training = mode
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for row in rows:
            text = f"{row['question']}\n\n**{row['answer']}**\n\nexpected: {row['expected']}"
            cast(SummaryWriter, self._writer).add_text(f"samples/{row['id']}", text, state.global_step)
        cast(SummaryWriter, self._writer).flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    @torch.no_grad()
    def _ask(self, index: int, step: int) -> dict[str, Any] | None:
        """Return the answer to a sample; None if its image cannot be read."""
        sample = self._data.sample(index)
        encoder = self._data.encoder
        try:
            prompt = encoder.prompt(sample)
        except ImageError:
            return None
        inputs = {name: value.to(self._model.device) for name, value in prompt.items()}
        generate = cast(Any, self._model).generate
        done = generate(**inputs, do_sample=False, max_new_tokens=self._max_new_tokens)
        ids = done[0, inputs["input_ids"].shape[1] :]
        turns = [(turn.role, text) for turn, text in zip(sample.turns, encoder.texts(sample), strict=True)]
        question, expected = (next((text for role, text in turns if role == who), "") for who in ("user", "assistant"))
        answer = encoder.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return {"step": step, "id": sample.id, "question": question, "answer": answer, "expected": expected}

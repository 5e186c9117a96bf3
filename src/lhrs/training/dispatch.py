"""From the `kind` of a run file to its schema and to the function that runs it."""

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, field_validator

from lhrs.config import load
from lhrs.errors import MissingExtraError
from lhrs.training.base import Run


class _Recipe(NamedTuple):
    schema: str
    """`module:class` of the run file."""
    run: str
    """`module:function` that runs it."""


_KINDS = {
    "curriculum": _Recipe("lhrs.training.run:CurriculumRun", "lhrs.training.curriculum:train_stage"),
    "pretrain": _Recipe("lhrs.training.pretrain_run:PretrainRun", "lhrs.training.pretrain:pretrain"),
    **{
        f"finetune-{task}": _Recipe(f"lhrs.training.finetune_run:{task.title()}Run", "lhrs.training.finetune:finetune")
        for task in ("classify", "segment", "change", "detect")
    },
    "vision": _Recipe("lhrs.nano.config:VisionRun", "lhrs.nano.train:train_vision"),
    "questions": _Recipe("lhrs.nano.config:QuestionsRun", "lhrs.nano.train:train_questions"),
}
_REQUIRED = ("torch", "transformers", "accelerate", "peft", "timm", "safetensors", "tensorboard")


class _Kind(BaseModel):
    """The one key that decides which other keys exist."""

    model_config = ConfigDict(extra="ignore")
    kind: str

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind not in _KINDS:
            raise ValueError(f"must be one of {', '.join(_KINDS)}")
        return kind


def load_run(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Run:
    """Read a run file; `lhrs.config.load` describes overrides.

    Raises:
        ConfigError: a key or a value is missing or wrong.
    """
    return load(get_schema(load(_Kind, path, overrides).kind), path, overrides)


def get_schema(kind: str) -> type[Run]:
    """Return the model of run files of one kind."""
    return cast(type[Run], _resolve(_KINDS[kind].schema))


def train(run: Run) -> None:
    """Run a recipe, from its newest checkpoint if it was stopped.

    Raises:
        ConfigError: the run contradicts itself, an earlier stage, or what its folder contains already.
        DataError: data is missing or broken.
        CheckpointError: weights do not fit.
        MissingExtraError: a library for training is not installed.
    """
    if missing := [name for name in _REQUIRED if find_spec(name) is None]:
        raise MissingExtraError(f"training needs {', '.join(missing)}: pip install 'lhrs[train]'")
    function: Callable[[Run], None] = _resolve(_KINDS[run.kind].run)
    function(run)


def _resolve(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)

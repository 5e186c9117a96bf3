"""From the `kind` of a run file to its schema and its recipe."""

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ConfigDict, field_validator

from lhrs.config import load_config
from lhrs.downstream.task import list_tasks
from lhrs.errors import MissingExtraError
from lhrs.training.run_config import RunConfig


class _Kind(NamedTuple):
    config: str
    """`module:class` of the run file."""
    recipe: str
    """`module:class` of the `lhrs.training.recipe.Recipe` that runs it."""


_KINDS = {
    "vlm": _Kind("lhrs.training.vlm_config:VLMConfig", "lhrs.training.vlm:VLMRecipe"),
    "cmid": _Kind("lhrs.training.cmid_config:CMIDConfig", "lhrs.training.cmid:CMIDRecipe"),
    "perception": _Kind(
        "lhrs.training.perception_config:PerceptionConfig", "lhrs.training.perception:PerceptionRecipe"
    ),
}
_FINETUNE = "lhrs.training.finetune:FinetuneRecipe"
"""Of every downstream task."""
_REQUIRED = ("torch", "transformers", "accelerate", "peft", "timm", "safetensors", "tensorboard")


class _AnyRun(BaseModel):
    """The one key that decides which other keys exist."""

    model_config = ConfigDict(extra="ignore")
    kind: str

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        known = [*_KINDS, *list_tasks()]
        if kind not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return kind


def load_run(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file; `lhrs.config.load` describes overrides.

    Raises:
        ConfigError: a key or a value is missing or wrong.
    """
    return load_config(get_schema(load_config(_AnyRun, path, overrides).kind), path, overrides)


def get_schema(kind: str) -> type[RunConfig]:
    """Return the model of run files of one kind."""
    if kind in _KINDS:
        return cast(type[RunConfig], _resolve(_KINDS[kind].config))
    from lhrs.training.finetune_config import get_schema as get_task_schema

    return get_task_schema(kind)


def train(run: RunConfig) -> None:
    """Run a run file, from its newest checkpoint if it was stopped.

    Raises:
        ConfigError: the run contradicts itself, an earlier stage, or what its folder contains already.
        DataError: data is missing or broken.
        CheckpointError: weights do not fit.
        MissingExtraError: a library for training is not installed.
    """
    from lhrs.training.recipe import run as run_recipe

    run_recipe(_recipe(run)(run))


def check(run: RunConfig) -> Iterator[str]:
    """Open the data of a run file and yield lines about it, its first sample and its memory, without training.

    Raises:
        ConfigError: the run contradicts itself.
        DataError: data is missing or broken.
        MissingExtraError: a library for training is not installed.
    """
    recipe = _recipe(run)
    from lhrs.training.check import check_recipe

    if "sync_batch_norm" in type(run).model_fields:  # needs GPUs, and changes nothing here
        run = run.model_copy(update={"sync_batch_norm": False})
    if run.kind != "vlm":
        return check_recipe(recipe(run))
    from lhrs.training.check_vlm import check_vlm

    return check_vlm(cast(Any, run))


def _recipe(run: RunConfig) -> Any:
    """Return the class of a run's recipe."""
    if missing := [name for name in _REQUIRED if find_spec(name) is None]:
        raise MissingExtraError(f"training needs {', '.join(missing)}: pip install 'lhrs[train]'")
    return _resolve(_KINDS[run.kind].recipe if run.kind in _KINDS else _FINETUNE)


def _resolve(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)

"""From the `kind` of a run file to its schema, the function that trains and its recipe."""

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
    train: str
    """`module:function` that runs it."""
    recipe: str
    """`module:class` of its `lhrs.training.recipe.Recipe`, for a check without training."""


_KINDS = {
    "vlm": _Kind("lhrs.training.vlm_config:VLMConfig", "lhrs.training.vlm:train_vlm", "lhrs.training.vlm:VLMRecipe"),
    "cmid": _Kind(
        "lhrs.training.cmid_config:CMIDConfig", "lhrs.training.cmid:train_cmid", "lhrs.training.cmid:CMIDRecipe"
    ),
    "perception": _Kind(
        "lhrs.training.perception_config:PerceptionConfig",
        "lhrs.training.perception:train_perception",
        "lhrs.training.perception:PerceptionRecipe",
    ),
}
_FINETUNE = ("lhrs.training.finetune:train_task", "lhrs.training.finetune:FinetuneRecipe")
"""Function and recipe of every downstream task."""
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
    train_kind, _ = _import_training(run)
    train_kind(run)


def check(run: RunConfig) -> Iterator[str]:
    """Open the data of a run file and yield lines about it, its first sample and its memory, without training.

    Raises:
        ConfigError: the run contradicts itself.
        DataError: data is missing or broken.
        MissingExtraError: a library for training is not installed.
    """
    _, recipe = _import_training(run)
    from lhrs.training.check import check_recipe

    if "sync_batch_norm" in type(run).model_fields:  # needs GPUs, and changes nothing here
        run = run.model_copy(update={"sync_batch_norm": False})
    if run.kind != "vlm":
        return check_recipe(recipe(run))
    from lhrs.training.check_vlm import check_vlm

    return check_vlm(cast(Any, run))


def _import_training(run: RunConfig) -> tuple[Any, Any]:
    """Return the function that trains a run, and the class of its recipe."""
    if missing := [name for name in _REQUIRED if find_spec(name) is None]:
        raise MissingExtraError(f"training needs {', '.join(missing)}: pip install 'lhrs[train]'")
    train_name, recipe_name = _KINDS[run.kind][1:] if run.kind in _KINDS else _FINETUNE
    return _resolve(train_name), _resolve(recipe_name)


def _resolve(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)

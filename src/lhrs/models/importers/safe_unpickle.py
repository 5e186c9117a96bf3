"""Reading of untrusted checkpoints without executing code."""

import pickle
from pathlib import Path
from typing import Any

import torch

from lhrs.errors import CheckpointError
from lhrs.models.state_dict import read_safetensors


class _Ignored:
    """Replaces objects of training frameworks in checkpoints; accepts any state and has no effect."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_BESIDE_TENSORS = ("Exploring.utils.metric.MetricStroge",)
"""Classes that occur in published files. They are read as `_Ignored`; any other class is refused."""


def read_table(path: Path) -> dict[str, Any]:
    """Return the table of tensors in a `.safetensors` or torch file.

    Raises:
        CheckpointError: the file is missing, broken, holds code, or is no table.
    """
    if path.suffix == ".safetensors":
        return dict(read_safetensors(path))
    try:
        stubs: list[Any] = [(_Ignored, name) for name in _BESIDE_TENSORS]
        with torch.serialization.safe_globals(stubs):
            saved = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is broken or holds more than tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path} holds a {type(saved).__name__}, not a table of tensors")
    return saved

"""Read weights from safetensors files, and load them into a module, or raise one line that names what does not fit."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lhrs.errors import CheckpointError


def read_safetensors(path: Path, is_wanted: Callable[[str], bool] | None = None) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Args:
        path: of the file.
        is_wanted: selects tensors by name; the others are not read.

    Raises:
        CheckpointError: the file is missing or broken.
    """
    try:
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if is_wanted is None or is_wanted(name)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str, may_miss: Sequence[str] = ()) -> None:
    """Load a state dict whose names and shapes must be exactly those of `module.state_dict()`.

    Args:
        module: to be filled.
        state: tensors by name.
        where: names the file or folder in messages.
        may_miss: patterns such as `head.*` of names that the file may lack; the module keeps its own values there.

    Raises:
        CheckpointError: a name is missing or unknown, or a shape differs; the module is unchanged.
    """
    expected = module.state_dict()
    missing = [n for n in expected.keys() - state.keys() if not any(fnmatch(n, pattern) for pattern in may_miss)]
    if missing:
        raise CheckpointError(f"{where} does not fit: it lacks {min(missing)}{_and_more(missing)}.")
    if unknown := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"{where} does not fit: the model has no {unknown[0]}{_and_more(unknown)}.")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, the model needs {tuple(expected[name].shape)}"
            raise CheckpointError(f"{where} does not fit: {name} has shape {shapes}.")
    module.load_state_dict(dict(state), strict=False)


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""

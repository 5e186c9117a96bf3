"""`lhrs.load`: find a model and make it answer."""

from pathlib import Path

from lhrs.errors import CheckpointError, ConfigError, MissingExtraError
from lhrs.inference.assistant import Assistant

EMBEDDED = "lhrs-nano"
"""Name of the model inside the package."""
_EMBEDDED_FOLDER = Path(__file__).parents[1] / "resources" / EMBEDDED


def load(model: str | Path | None = None, device: str | None = None) -> Assistant:
    """Load a model.

    Args:
        model: None or "lhrs-nano" for the embedded one; a folder written by `save_pretrained` or exported to ONNX; or a
            hub id (`organisation/name`) of an LHRS model.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the GPU where there is one. The embedded model runs on
            onnxruntime unless a device other than the CPU is named.

    Raises:
        ConfigError: there is no such model or device.
        CheckpointError: the folder does not hold a model that fits.
        MissingExtraError: the model needs torch and it is not installed.
    """
    name = str(model) if model is not None else EMBEDDED
    folder = _EMBEDDED_FOLDER if name == EMBEDDED else Path(name)
    if device in (None, "cpu") and (folder / "language.onnx").exists():
        from lhrs.inference.runtimes.onnx import OnnxRuntime

        return Assistant(OnnxRuntime(folder))
    if folder.is_dir() and not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds no model: there is no config.json in it.")
    if not folder.is_dir() and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise ConfigError(f"there is no model {name!r}: give a folder, a hub id like organisation/name, or {EMBEDDED}.")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"model {name!r} needs torch: pip install 'lhrs[torch]'") from error
    from lhrs.inference.runtimes.torch import TorchRuntime

    return Assistant(TorchRuntime(str(folder) if folder.is_dir() else name, device))

"""`lhrs.load`: find and load a model."""

from pathlib import Path
from typing import Any

from lhrs.errors import CheckpointError, ConfigError, MissingExtraError
from lhrs.inference.assistant import Assistant
from lhrs.inference.options import ASKING, LOADING, READING, ModelOptions
from lhrs.inference.runtime import Runtime

EMBEDDED = "lhrs-nano"
"""Name of the model inside the package."""
_EMBEDDED_FOLDER = Path(__file__).parents[1] / "resources" / EMBEDDED


def load(
    model: str | Path | None = None,
    device: str | None = None,
    options: ModelOptions = ModelOptions(),  # noqa: B008 (frozen)
) -> Assistant:
    """Load a model.

    Args:
        model: None or "lhrs-nano" for the embedded one; a folder written by `save_pretrained` or exported to ONNX; or a
            hub id (`organisation/name`) of an LHRS model or of any image-text-to-text model of transformers; or the
            URL of an OpenAI-compatible server, up to `/v1`, with `#name` behind it for one of several models.
        device: "cpu", "cuda", "cuda:1", "mps"; None is the GPU if available. The embedded model runs on
            onnxruntime unless a device other than the CPU is named.
        options: how the model is loaded and asked.

    Raises:
        ConfigError: there is no such model or device, or the model cannot obey one of the options.
        CheckpointError: the folder contains no supported model.
        MissingExtraError: the model needs torch and it is not installed.
    """
    runtime = _open_runtime(str(model) if model is not None else EMBEDDED, device, options)
    if options.family is not None:
        from lhrs.inference.family_file import open_family

        runtime.family = open_family(options.family)
    if options.system is not None:
        runtime.family.system_prompt = options.system
    return Assistant(runtime, max_new_tokens=options.max_new_tokens)


def _open_runtime(name: str, device: str | None, options: ModelOptions) -> Runtime:
    """Return the runtime of a model that obeys the options."""
    if name == EMBEDDED:
        options.require((), "the embedded model")
    if name.startswith(("http://", "https://")):
        from lhrs.inference.runtimes.openai import OpenAIRuntime

        options.require((*ASKING, *READING), "a server")
        return OpenAIRuntime(name, options)
    folder = _EMBEDDED_FOLDER if name == EMBEDDED else Path(name)
    if device in (None, "cpu") and (folder / "language.onnx").exists():
        from lhrs.inference.runtimes.onnx import OnnxRuntime

        options.require(ASKING, "a model in ONNX")
        return _with_evidence(OnnxRuntime(folder), folder, options)
    if folder.is_dir() and not (folder / "config.json").exists():
        raise CheckpointError(f"{folder} contains no model: there is no config.json in it.")
    if not folder.is_dir() and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise ConfigError(f"there is no model {name!r}: give a folder, a hub id like organisation/name, or {EMBEDDED}.")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"model {name!r} needs torch: pip install 'lhrs[torch]'") from error
    source = str(folder) if folder.is_dir() else name
    if folder.is_dir() and options.revision is not None:
        raise ConfigError(f"--revision is for a model of the hub; {folder} is a folder.")
    if _is_ours(source, options.revision):
        from lhrs.inference.runtimes.torch import TorchRuntime

        options.require((*ASKING, *LOADING), "an LHRS model")
        return _with_evidence(TorchRuntime(source, device, options), Path(source), options)
    from lhrs.inference.runtimes.transformers import TransformersRuntime

    return TransformersRuntime(source, device, options)


def _with_evidence(runtime: Any, folder: Path, options: ModelOptions) -> Runtime:
    """Return a runtime that answers from the evidence of dense heads, if the model has them."""
    if runtime.heads is None:
        return runtime
    options.require(LOADING, "a model with dense heads")
    from lhrs.inference.perception import PerceptionRuntime

    return PerceptionRuntime(runtime, runtime.heads, folder)


def model_folder(model: str | Path | None) -> Path:
    """Return the folder of a model; a hub id or URL is returned as a path."""
    return _EMBEDDED_FOLDER if model is None or str(model) == EMBEDDED else Path(model)


def model_hash(
    model: str | None,
    name: str,
    options: ModelOptions = ModelOptions(),  # noqa: B008 (frozen)
) -> str:
    """Return a hash of a model: of a folder, all its files (of large ones the size, beginning and end), else its name.

    Args:
        model: as `load` takes it.
        name: from the runtime.
        options: of the model; those that are given change the hash.
    """
    from lhrs import fingerprint

    hashed = fingerprint.of_model(model_folder(model), name)
    return fingerprint.of_config([hashed, options.given]) if options.given else hashed


def _is_ours(source: str, revision: str | None) -> bool:
    """Return whether a configuration is that of an LHRS model, without loading the model."""
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(source, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source} cannot be read as a model: {' '.join(str(error).split())[:300]}") from error
    return config.get("model_type") == "lhrs"

"""Language helps remote sensing: talk to images of the Earth's surface, and train and measure models that do."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhrs.evaluation.evaluate import evaluate
    from lhrs.evaluation.score import score
    from lhrs.inference.load import load

__all__ = ["evaluate", "load", "score"]
_MODULES = {
    "evaluate": "lhrs.evaluation.evaluate", "load": "lhrs.inference.load", "score": "lhrs.evaluation.score",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import lhrs` and `lhrs --help` cost nothing."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'lhrs' has no attribute {name!r}")

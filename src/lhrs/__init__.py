"""Language helps remote sensing: talk to images of the Earth's surface, and train and measure models that do."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhrs.inference.load import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import lhrs` and `lhrs --help` cost nothing."""
    if name == "load":
        from lhrs.inference.load import load

        return load
    raise AttributeError(f"module 'lhrs' has no attribute {name!r}")

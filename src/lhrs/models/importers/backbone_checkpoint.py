"""Load a backbone from a checkpoint of any training code: prefixes are removed, classifiers are dropped."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lhrs.dropped import Dropped
from lhrs.errors import CheckpointError
from lhrs.models.importers.safe_unpickle import read_table
from lhrs.models.state_dict import load_strict

_TABLES = ("state_dict", "model", "model_state_dict", "network", "teacher", "student")
"""Keys under which training codes nest the tensors."""
_CLASSIFIERS = ("fc.", "head.", "head_dist.", "heads.", "classifier.", "last_linear.", "linear.", "cls_head.")
_MIN_MATCHES = 0.5
"""Fraction of the model's tensors that a prefix must explain."""


def load_backbone_checkpoint(model: nn.Module, path: Path) -> Dropped:
    """Load all weights of a model without a head; return, and print, what else the file contains, by reason.

    Raises:
        CheckpointError: the file is missing or broken, or the weights are of another architecture.
    """
    tensors, expected = read_tensors(path), model.state_dict()
    prefix = _best_prefix(tensors, expected)
    dropped = Dropped()
    state = {}
    for name, value in tensors.items():
        short = name.removeprefix(prefix)
        if not name.startswith(prefix):
            dropped.add("outside of the backbone", name)
        elif short not in expected and short.startswith(_CLASSIFIERS):
            dropped.add("weights of a classifier", name)
        else:
            state[short] = value
    load_strict(model, state, str(path), may_miss=["*.num_batches_tracked", "*.relative_position_index"])
    if dropped:
        print(f"{path}: {dropped.summary()}", file=sys.stderr)
    return dropped


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, which may be nested, in its order.

    Raises:
        CheckpointError: the file is missing or broken, or has none.
    """
    table: dict[str, Any] = read_table(path)
    for _ in range(3):
        tensors = {name: value for name, value in table.items() if isinstance(value, Tensor)}
        nested = next((table[key] for key in _TABLES if isinstance(table.get(key), dict)), None)
        if len(tensors) > 1 or nested is None:
            break
        table = nested
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors.")
    return tensors


def _best_prefix(names: Iterable[str], expected: Iterable[str]) -> str:
    """Return the prefix such as `module.backbone.` under which most of the model's tensors are found.

    Of equals it is the shortest, then the first in the file: momentum contrast saves the query encoder first.
    """
    present, wanted = dict.fromkeys(names), list(expected)
    prefixes = {"": None}
    for name in present:
        parts = name.split(".")
        prefixes |= {".".join(parts[:n]) + ".": None for n in range(1, min(len(parts), 4))}
    counts = {prefix: sum(f"{prefix}{name}" in present for name in wanted) for prefix in prefixes}
    best = max(sorted(counts, key=len), key=lambda prefix: counts[prefix])
    return best if counts[best] >= _MIN_MATCHES * len(wanted) else ""

"""Frozen and trainable modules."""

import sys
from collections import Counter
from collections.abc import Callable, Collection

from rich.console import Console
from rich.table import Table
from torch import nn


def module_of(name: str) -> str:
    """Return the module of an LHRS model that a parameter or buffer belongs to, by its name."""
    if ".lora_" in name:
        return "lora"
    for part in ("vision_tower", "bridge", "dense_heads"):
        if f".{part}." in f".{name}":
            return part
    return "language_model"


def freeze_except(module: nn.Module, train: Collection[str]) -> None:
    """Make the parameters of some modules trainable, in float32; frozen ones keep their dtype."""
    for name, parameter in module.named_parameters():
        is_trainable = module_of(name) in train
        parameter.requires_grad_(is_trainable)
        if is_trainable:
            parameter.data = parameter.data.float()


def print_trainable(module: nn.Module, part: Callable[[str], str] = module_of) -> None:
    """Print a table on stderr: parameters and trainable parameters of each module."""
    total, trainable = count_parameters(module, part)
    table = Table("module", title="trainable parameters")
    table.add_column("parameters", justify="right")
    table.add_column("trainable", justify="right")
    for name, count in total.items():
        table.add_row(name, f"{count:,}", f"{trainable[name]:,}" if trainable[name] else "frozen")
    table.add_section()
    table.add_row("all", f"{total.total():,}", f"{trainable.total():,}")
    Console(stderr=True, width=None if sys.stderr.isatty() else 100).print(table)


def count_parameters(module: nn.Module, part: Callable[[str], str] = module_of) -> tuple[Counter[str], Counter[str]]:
    """Return the number of all and of trainable parameters by part; shared ones count once."""
    total: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in module.named_parameters():
        total[part(name)] += parameter.numel()
        trainable[part(name)] += parameter.numel() if parameter.requires_grad else 0
    return total, trainable

"""What learns and what is frozen, told for every run before it begins."""

import sys
from collections import Counter
from collections.abc import Callable, Collection

from rich.console import Console
from rich.table import Table
from torch import nn


def part_of(name: str) -> str:
    """Return the part of an LHRS model that a parameter or buffer belongs to, by its name."""
    if ".lora_" in name:
        return "lora"
    for part in ("vision_tower", "bridge"):
        if f".{part}." in f".{name}":
            return part
    return "language_model"


def freeze_all_but(module: nn.Module, train: Collection[str]) -> None:
    """Let exactly the parameters of some parts learn, in float32; frozen ones keep their type."""
    for name, parameter in module.named_parameters():
        learns = part_of(name) in train
        parameter.requires_grad_(learns)
        if learns:
            parameter.data = parameter.data.float()


def print_trainable(module: nn.Module, part: Callable[[str], str] = part_of) -> None:
    """Print on stderr, for every part, how many parameters it has and how many of them learn."""
    total, trainable = count_parameters(module, part)
    table = Table("part", title="what learns")
    table.add_column("parameters", justify="right")
    table.add_column("trainable", justify="right")
    for name, count in total.items():
        table.add_row(name, f"{count:,}", f"{trainable[name]:,}" if trainable[name] else "frozen")
    table.add_section()
    table.add_row("all", f"{total.total():,}", f"{trainable.total():,}")
    Console(stderr=True, width=None if sys.stderr.isatty() else 100).print(table)


def count_parameters(module: nn.Module, part: Callable[[str], str] = part_of) -> tuple[Counter[str], Counter[str]]:
    """Return the number of all and of trainable parameters by part; shared ones count once."""
    total: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in module.named_parameters():
        total[part(name)] += parameter.numel()
        trainable[part(name)] += parameter.numel() if parameter.requires_grad else 0
    return total, trainable

"""Family files: the box notation of a model as YAML, for `--family FILE.yaml`. `lhrs check-boxes` writes them.

A file has the keys of `FamilyFile`, such as `boxes: {order: xyxy, scale: image}`.
"""

from pathlib import Path

import yaml
from pydantic import field_validator

from lhrs.atomic_io import write_atomic
from lhrs.config import Config, load_config
from lhrs.inference.box_notation import BoxNotation, NotationFamily, Order, Scale
from lhrs.inference.model_family import ModelFamily, get_family

SUFFIXES = (".yaml", ".yml")


class Boxes(Config):
    """How the model writes boxes, see `lhrs.inference.box_notation.BoxNotation`."""

    order: Order = "xyxy"
    scale: Scale = 1000
    multiple: int | None = None
    key: str | None = None

    @field_validator("scale")
    @classmethod
    def _above_zero(cls, scale: Scale) -> Scale:
        if not isinstance(scale, str) and scale <= 0:
            raise ValueError("a scale is a number above 0, image or resized")
        return scale

    @field_validator("multiple")
    @classmethod
    def _positive(cls, multiple: int | None) -> int | None:
        if multiple is not None and multiple < 1:
            raise ValueError("a multiple is a number of pixels above 0")
        return multiple


class FamilyFile(Config):
    """A family file."""

    base: str | None = None
    """Family whose other prompts are used."""
    ground_prompt: str
    boxes: Boxes
    measured: dict[str, str | float] | None = None
    """What `lhrs check-boxes` measured; it has no effect."""

    @field_validator("ground_prompt")
    @classmethod
    def _names_the_object(cls, prompt: str) -> str:
        if "{expression}" not in prompt:
            raise ValueError("a ground_prompt contains {expression}")
        return prompt


class DeclaredFamily(NotationFamily):
    """The family of a family file."""

    def __init__(self, config: FamilyFile) -> None:
        base = ModelFamily() if config.base is None else get_family(config.base)
        for name in dir(ModelFamily):
            if name.endswith("_prompt"):
                setattr(self, name, getattr(base, name))
        self.ground_prompt = config.ground_prompt
        self.notation = BoxNotation(**config.boxes.model_dump())


def open_family(name: str) -> ModelFamily:
    """Return a family by its name, or by its file if the name ends in .yaml.

    Raises:
        ConfigError: there is no such family or file, or the file is wrong.
    """
    if not name.endswith(SUFFIXES):
        return get_family(name)
    return DeclaredFamily(load_config(FamilyFile, name))


def save_family(config: FamilyFile, path: Path) -> None:
    """Write a family file."""
    values = config.model_dump(mode="json", exclude_none=True)
    write_atomic(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))

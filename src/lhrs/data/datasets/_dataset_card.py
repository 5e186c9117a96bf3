"""Names of classes in a Hugging Face dataset card (https://huggingface.co/docs/hub/datasets-cards)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lhrs.data.dataset import read_text
from lhrs.errors import DataError


def read_class_names(folder: Path) -> dict[int, str]:
    """Return the names by number of the only `class_label` in the YAML block of `README.md`; none without one.

    Raises:
        DataError: The block is no YAML.
    """
    path = folder / "README.md"
    if not path.is_file():
        return {}
    start, _, rest = read_text(path, "replace").partition("---\n")
    if start.strip():
        return {}
    try:
        card = yaml.load(rest.partition("\n---")[0], yaml.BaseLoader)  # a class called `no` is text
    except yaml.YAMLError as error:
        raise DataError(f"{path}: its block of metadata is not valid YAML: {' '.join(str(error).split())}.") from None
    mappings = {tuple(names.items()) for names in _find_names(card)}
    return {int(number): name for number, name in mappings.pop()} if len(mappings) == 1 else {}


def _find_names(value: Any) -> Iterator[dict[str, str]]:
    """Yield `names` of each `class_label` at any depth."""
    if isinstance(value, dict):
        label = value.get("class_label")
        names = label.get("names") if isinstance(label, dict) else None
        if isinstance(names, dict) and all(str(number).isdecimal() for number in names):
            yield names
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _find_names(part)

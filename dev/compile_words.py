"""Check `src/lhrs/resources/land_words.yaml` and write `land_words.json`, which loads thirty times as fast.

python dev/compile_words.py
"""

import json
from pathlib import Path

import yaml

from lhrs.atomic_io import write_atomic
from lhrs.perception.word_table import WordTable

RESOURCES = Path(__file__).parents[1] / "src/lhrs/resources"


def compile_words() -> str:
    """Return the content of `land_words.json`."""
    table = yaml.safe_load((RESOURCES / "land_words.yaml").read_text(encoding="utf-8"))
    WordTable.from_dict(table).check()
    return json.dumps(table, indent=1) + "\n"


if __name__ == "__main__":
    write_atomic(RESOURCES / "land_words.json", compile_words())

"""Class names of data sets as words, and in sentences."""

import re
from functools import cache
from importlib.resources import files

from lhrs.align.phrases import with_article
from lhrs.align.tags import tag_table

_WORDS = frozenset((files("lhrs") / "resources" / "class_words.txt").read_text(encoding="utf-8").split())
"""Words of class names of land use and land cover, by which names without spaces are split."""
_ADJECTIVES = frozenset(
    ["agricultural", "bare", "barren", "business", "central", "coastal", "commercial", "dense", "high", "industrial",
     "medium", "mixed", "open", "residential", "rural", "sparse", "suburban", "urban"]
)  # fmt: skip
_UNCOUNTED = frozenset(
    ["agriculture", "asphalt", "chaparral", "cropland", "farmland", "forestry", "grass", "grassland", "ice", "land",
     "pasture", "rangeland", "sand", "shrubland", "snow", "soil", "tundra", "vegetation", "water", "wheat", "woodland"]
)  # fmt: skip


def label_words(label: str) -> str:
    """Return the words of a class name: `TennisCourt`, `tennis_court` and `tenniscourt` are tennis court."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", label).lower().split()
    return " ".join(_split(word) for word in spaced)


def describe_class(words: str) -> str:
    """Return a class name as the subject of a sentence: a tennis court, dense forest, storage tanks."""
    last = words.split()[-1]
    kind = tag_table().kinds.get(words)
    if last in _ADJECTIVES:
        return with_article(f"{words} area")
    if last in _UNCOUNTED or (last.endswith("s") and not last.endswith("ss")) or (kind and kind.plural is None):
        return words
    return with_article(words)


@cache
def _split(word: str) -> str:
    """Return a word split into the fewest words of `_WORDS`, or unchanged if that is impossible."""
    best: list[list[str] | None] = [[], *[None] * len(word)]
    for end in range(1, len(word) + 1):
        for start in range(end):
            before, part = best[start], word[start:end]
            if before is not None and (part in _WORDS or (part.endswith("s") and part[:-1] in _WORDS)):
                found = best[end]
                if found is None or len(before) + 1 < len(found):
                    best[end] = [*before, part]
    return " ".join(best[-1] or [word])

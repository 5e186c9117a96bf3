"""English phrases as words: case, plural, hyphens, CamelCase, lists, and wordings such as "an image of"."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

AND = "and"
"""The token of every conjunction, comma and slash."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARENTHESES = re.compile(r"[(\[{].*?[)\]}]")
_TOKEN = re.compile(r"[a-z]+|[,/&+;|]")
_JOINS = {AND, "or", "plus", ",", "/", "&", "+", ";", "|"}

_STARTERS = {
    *("a", "an", "the", "some", "any", "this", "that", "these", "those", "its", "our", "all", "every", "each", "both"),
    *("many", "few", "several", "more", "most", "much", "there", "here", "it", "is", "are", "was", "be", "only"),
    *("shows", "show", "showing", "contains", "containing", "of", "with", "covered", "by", "full", "just", "how"),
}
"""Words that may come before a noun phrase."""
_IMAGING = {
    *("satellite", "aerial", "overhead", "drone", "airborne", "remote", "sensing", "top", "down", "high", "low"),
    *("resolution", "sentinel", "landsat", "optical", "color", "rgb", "bird", "eye", "birdseye", "google", "earth"),
}
_FRAMES = {
    *("image", "photo", "photograph", "picture", "view", "scene", "area", "region", "patch", "piece", "type", "kind"),
    *("body", "group", "row", "lot", "plenty", "amount", "number", "stretch", "expanse", "land", "tile", "part"),
    *("percentage", "percent", "share", "fraction", "proportion", "presence", "place", "example", "cluster", "bit"),
    *("imagery", "pair", "bunch", "strip", "mass", "field", "surface", "location", "site", "landscape", "zone"),
}
_LINKS = {
    *("of", "with", "showing", "containing", "covered", "by", "full", "depicting", "from", "in", "where", "used"),
    *("for", "dominated", "occupied", "filled"),
}
"""Words that connect a frame (an area) with what it is about (covered with forest)."""
_PREPOSITIONS = {
    *("of", "with", "in", "on", "at", "near", "by", "along", "over", "under", "through", "between", "from", "next"),
    *("beside", "around", "across", "inside", "within", "behind", "above", "below", "for", "to", "into", "against"),
}
FUNCTION_WORDS = _STARTERS | _LINKS | _PREPOSITIONS
"""Words that do not stand inside a noun phrase without a preposition."""
NEGATIONS = {"no", "not", "non", "without", "neither", "nor", "lacking", "absent", "except", "excluding"}


def split_words(text: str, spellings: Mapping[str, str] | None = None) -> list[str]:
    """Return the lower-case words of a text; conjunctions, commas and slashes become `and`.

    Args:
        text: any text. Digits and what is in parentheses are dropped.
        spellings: words that are replaced.
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("'s", "")
    text = _CAMEL.sub(" ", _PARENTHESES.sub(" ", text)).lower()
    words = [AND if word in _JOINS else word for word in _TOKEN.findall(text)]
    spellings = spellings or {}
    return [spellings.get(word) or spellings.get(singular(word), word) for word in words]


@lru_cache(maxsize=8192)
def singular(word: str) -> str:
    """Return the singular of a noun by rule.

    It serves to compare words, not to be read: `prairie` and `prairies` both become `prairy`.
    """
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith(("ies", "ie")):
        return f"{word.removesuffix('s')[:-2]}y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes", "oes")):
        return word[:-2]
    return word.removesuffix("s")


def keys_of(words: Sequence[str]) -> tuple[str, ...]:
    """Return the forms under which a phrase is listed and looked up: as it is, in the singular, or only its last word.

    They have no spaces, so that `car park`, `carpark` and `CarPark` are the same. Conjunctions are left out.
    """
    words = [word for word in words if word != AND]
    if not words:
        return ()
    alone = [singular(word) for word in words]
    return tuple(dict.fromkeys(("".join(words), "".join(alone), "".join([*words[:-1], alone[-1]]))))


def split_list(words: Sequence[str]) -> list[list[str]]:
    """Split the words of a list, such as `grass, shrubs or trees`, into its parts."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == AND:
            parts.append([])
        else:
            parts[-1].append(word)
    return [part for part in parts if part]


def noun_phrases(words: Sequence[str], modifiers: frozenset[str]) -> Iterator[list[str]]:
    """Yield ever shorter readings of a phrase: whole, without articles, without a frame, without what follows.

    "An image of a forest near a river" is read as "forest near a river", then as "forest".

    Args:
        words: lower case, from `split_words`.
        modifiers: adjectives that may come before a frame ("a large area of ...").
    """
    rest = list(words)
    yield rest
    while True:
        start = _num_leading(rest, _STARTERS)
        if start:
            rest = rest[start:]
            yield rest
        frame = _num_leading(rest, _STARTERS | _IMAGING | modifiers)
        if not (frame + 1 < len(rest) and singular(rest[frame]) in _FRAMES and rest[frame + 1] in _LINKS):
            break
        following = rest[frame + 1 :]
        rest = following[_num_leading(following, _LINKS | _STARTERS) :]
        yield rest
    end = next((n for n, word in enumerate(rest) if n and word in _PREPOSITIONS), None)
    if end is not None:
        yield rest[:end]


def _num_leading(words: Sequence[str], among: set[str] | frozenset[str]) -> int:
    """Return how many words at the start are in a set; the last word never is counted."""
    return next((n for n, word in enumerate(words[:-1]) if word not in among), max(len(words) - 1, 0))


def edit_distance(a: str, b: str, limit: int) -> int:
    """Return how many letters must be inserted, dropped, replaced or swapped with the next; `limit + 1` if more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before, row = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        last, before, row = before, row, [i] + [0] * len(b)
        for j, right in enumerate(b, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                row[j] = min(row[j], last[j - 2] + 1)
        if min(row) > limit:
            return limit + 1
    return row[-1]

"""Verify the claims of a text about an image against the facts.

The checker recognizes the nouns of the tag table and their synonyms, counts, positions, directions and fractions. It
does not parse English: text that it does not recognize is not judged. Nouns of unmapped objects (cars, people) are
reported.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from lhrs.align.caption_templates import BUILT_UP, is_counted, is_line
from lhrs.align.facts import Fact
from lhrs.align.phrases import COMPASS, DIRECTIONS, NUMBERS, PLACES, SHARES
from lhrs.align.tags import plural, tag_table

UNMAPPED = (
    "airplane", "aircraft", "plane", "helicopter", "boat", "ship", "yacht", "car", "vehicle", "truck", "bus", "van",
    "train", "person", "people", "pedestrian", "crowd", "animal", "cattle", "cow", "sheep", "horse", "tent",
    "container", "crane", "shadow", "cloud", "smoke", "fire", "snow", "flower", "rooftop garden", "umbrella", "statue",
    "billboard",
)  # fmt: skip
"""Objects that images show but maps do not contain. The facts cannot support or contradict them."""
_VAGUE = {
    "several": (2, 10**6), "many": (4, 10**6), "numerous": (4, 10**6), "some": (1, 10**6), "few": (2, 12),
    "number": (2, 10**6), "dozens": (18, 10**6), "hundreds": (100, 10**6), "thousands": (1000, 10**6),
    "pair": (2, 2), "couple": (2, 3),
}  # fmt: skip
"""Words for counts, with the minimum and maximum count that each may mean."""
_COUNT = re.compile(
    r"\b(about|around|roughly|approximately|more than|over|at least|nearly)?\s*(\d[\d,]*|[a-z]+)\s+(?:[a-z-]+\s+){0,2}$"
)
_NUMBER_WORDS = {
    **{word: n for n, word in enumerate(NUMBERS)},
    "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
    "hundred": 100, "thousand": 1000,
}  # fmt: skip
_REFUSES = re.compile(r"\b(?:cannot|can't|could not|unable|sorry|as an ai|not (?:visible|possible|clear|sure))\b")
_NONE = re.compile(r"\b(?:no|without|lacks?|absence of|devoid of|free of)\s+\w+")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent|per cent)")
_COMPASS_PLACES = {"north": "top", "south": "bottom", "west": "left", "east": "right", "northwest": "top left",
                   "northeast": "top right", "southwest": "bottom left", "southeast": "bottom right"}  # fmt: skip
_COMPASS_PLACE = re.compile(r"\bin the (north|south)?[- ]?(east|west)?(?:ern)?(?: corner| part| side)?\b")
_ABSENT = re.compile(
    r"\b(?:no|without|lacks?|absence of|devoid of|free of)\s+(?:any\s+|visible\s+)?(?:[a-z-]+\s+){0,2}$"
)
_OF_THEM = re.compile(r"\b(?:one of the|some of the|the|this|these|its|their|beside|along|near)\s+$")

_BESIDE = re.compile(r"\b(?:beside|along|near|one of|some of)(?: the)?\s+$")

Verdict = Literal["supported", "contradicted", "unsupported"]


@dataclass(frozen=True)
class Claim:
    """One claim of a text."""

    text: str
    """Words of the claim."""
    kind: str
    """`presence`, `count`, `position`, `share`, `direction` or `absence`."""
    verdict: Verdict
    """Contradicted: the facts state the opposite. Unsupported: the facts do not state it."""


def verify_claims(text: str, facts: Sequence[Fact], exact: bool = True) -> list[Claim]:
    """Return the claims of a text, in order of appearance.

    Args:
        text: English text.
        facts: facts of the image. Kinds that are not in the tag table are also recognized as nouns.
        exact: counts must equal those of the facts; otherwise they may differ by a quarter.
    """
    claims: list[Claim] = []
    lower = re.sub(r"\s+", " ", text.lower()).replace("centre", "center")
    own = tuple(sorted({fact.kind for fact in facts} - tag_table().kinds.keys()))
    for part in re.split(r"(?<=[a-z0-9])[.;!?](?:\s|$)|\n", lower):
        mentions = list(_pattern(own).finditer(part))
        claims += [Claim(match[0], "absence", "unsupported") for match in _REFUSES.finditer(part)]
        absent = {mention.start() for mention in mentions if _ABSENT.search(part[: mention.start()])}
        if not absent:  # the absent object is not in the tag table
            claims += [Claim(match[0], "absence", "unsupported") for match in _NONE.finditer(part)]
        for n, mention in enumerate(mentions):
            before = part[mentions[n - 1].end() if n else 0 : mention.start()]
            after = part[mention.end() : mentions[n + 1].start() if n + 1 < len(mentions) else len(part)]
            after = after.partition(")")[0]  # text after a parenthesis does not describe its last word
            claims += _claims(mention[0], before, after, facts, exact)
    return claims


def unsupported_fraction(claims: Sequence[Claim]) -> float:
    """Return the fraction of claims that the facts do not support; 0 without claims."""
    return sum(claim.verdict != "supported" for claim in claims) / len(claims) if claims else 0.0


def claim_coverage_precision(text: str, facts: Sequence[Fact]) -> tuple[float, float]:
    """Return coverage and precision of a text.

    Coverage is the fraction of visible facts whose kind the text mentions. Mentioning a child kind counts: a church
    mentions a building. Precision is the fraction of the text's claims that the facts support.
    """
    visible = [fact for fact in facts if fact.visible]
    named = {fact.kind for fact in visible if _mentions(text, fact)}
    named |= {fact.parent for fact in visible if fact.kind in named and fact.parent}
    coverage = sum(fact.kind in named for fact in visible) / len(visible) if visible else 1.0
    return round(coverage, 4), round(1 - unsupported_fraction(verify_claims(text, facts)), 4)


def _mentions(text: str, fact: Fact) -> bool:
    return any(claim.kind == "presence" and claim.verdict == "supported" for claim in verify_claims(text, [fact]))


def _claims(word: str, before: str, after: str, facts: Sequence[Fact], exact: bool) -> list[Claim]:
    own = {name: f.kind for f in facts if f.kind not in tag_table().kinds for name in (f.kind, plural(f.kind))}
    kinds = frozenset([own[word]]) if word in own else _lexicon()[_singular(word)]
    if _ABSENT.search(before):
        there = [f for f in facts if f.kind in kinds]
        return [Claim(f"no {word}", "absence", "contradicted" if there else "unsupported")]
    meant = [f for f in facts if f.kind in kinds and f.visible]
    if not meant:
        return [Claim(word, "presence", "unsupported")]
    claims = [Claim(word, "presence", "supported")]
    counted = _counted(before)
    if counted and any(is_counted(f.kind) for f in meant):
        words, low, high = counted
        slack = 1.0 if exact else 1.25
        right = any(low / slack <= f.num_visible <= high * slack for f in meant)
        claims.append(Claim(f"{words} {word}".strip(), "count", "supported" if right else "contradicted"))
    if not _BESIDE.search(before):
        claims += _described(word, after, meant)
    return claims


def _counted(before: str) -> tuple[str, float, float] | None:
    """Return the words, minimum and maximum of a count that precedes a noun."""
    match = _COUNT.search(before)
    if not match or _OF_THEM.search(before):
        return None
    about = match[1]
    tail = re.findall(r"[a-z]+|\d[\d,]*", before)[-6:]
    tail = tail[tail.index("can") + 1 :] if "can" in tail else tail  # "one can see" is no count
    vague = max((n for n, word in enumerate(tail) if word in _VAGUE), default=None)
    count = _number_in(tail if vague is None else tail[vague:])
    if count is None:
        return None if vague is None else (tail[vague], *_VAGUE[tail[vague]])
    if about in ("more than", "over", "at least"):
        return f"{about} {count}", count, 10**6
    if about:
        return f"{about} {count}", 0.8 * count, 1.2 * count
    return str(count), count, count


def _number_in(words: Sequence[str]) -> int | None:
    """Return the number that the last words spell: `ninety nine`, `a hundred`, `1,200`."""
    is_number = [word[0].isdigit() or (word in _NUMBER_WORDS and word != "no") for word in words]
    end = len(words) - next((n for n, yes in enumerate(reversed(is_number)) if yes), len(words))
    start = end
    while start and is_number[start - 1]:
        start -= 1
    total, has_number = 0, False
    for word in words[start:end]:
        if word.replace(",", "").isdecimal():
            total, has_number = int(word.replace(",", "")), True
        else:
            value = _NUMBER_WORDS[word]
            total = max(1, total) * value if value >= 100 else total + value
            has_number = True
    return total if has_number else None


def _described(word: str, after: str, meant: Sequence[Fact]) -> list[Claim]:
    claims = []
    places = [(words, _places()[words]) for words in _all(after, _places())]
    for match in _COMPASS_PLACE.finditer(after):
        name = f"{match[1] or ''}{match[2] or ''}"
        if name:
            places.append((match[0], _COMPASS_PLACES[name]))
    for words, place in places:
        right = any(f.position == place for f in meant)
        has_position = any(f.position for f in meant)
        verdict: Verdict = "supported" if right else "contradicted" if has_position else "unsupported"
        claims.append(Claim(f"{word} {words}", "position", verdict))
    for match in _PERCENT.finditer(after):
        right = any(abs(float(match[1]) / 100 - f.area_fraction) <= 0.05 for f in meant)
        claims.append(Claim(f"{word} {match[0]}", "share", "supported" if right else "contradicted"))
    way = _first(after, _directions())
    if way:
        right = any(f.orientation == _directions()[way] for f in meant if is_line(f) or f.length_m)
        claims.append(Claim(f"{word} {way}", "direction", "supported" if right else "contradicted"))
    fraction = _first(after, _shares())
    if fraction:
        low, high = _shares()[fraction]
        right = any(low - 0.05 <= f.area_fraction <= high + 0.05 for f in meant)
        claims.append(Claim(f"{word} {fraction}", "share", "supported" if right else "contradicted"))
    return claims


def _first(text: str, phrases: dict) -> str | None:
    at = [(text.find(words), -len(words), words) for words in phrases if words in text]
    return min(at)[2] if at else None


def _all(text: str, phrases: dict) -> list[str]:
    """Return all known words in a text; the longest match wins."""
    matches, rest = [], text
    while (first := _first(rest, phrases)) is not None:
        matches.append(first)
        rest = rest[rest.find(first) + len(first) :]
    return matches


@cache
def _places() -> dict[str, str]:
    return {words: place for place, ways in PLACES.items() for words in ways}


@cache
def _directions() -> dict[str, str]:
    return {words: way for table in (DIRECTIONS, COMPASS) for way, ways in table.items() for words in ways}


@cache
def _shares() -> dict[str, tuple[float, float]]:
    return {words: (low, high) for low, high, ways in SHARES for words in ways}


@cache
def _lexicon() -> dict[str, frozenset[str]]:
    """Return the kinds that each singular word may mean; none for unmapped objects."""
    kinds_of: dict[str, set[str]] = {word: set() for word in UNMAPPED}
    for kind in tag_table().kinds.values():
        for word in (kind.name, *kind.others):
            kinds_of.setdefault(word, set()).add(kind.name)
        if kind.setting:
            bare = re.sub(r"^(?:an?|the|a wide) ", "", kind.setting)
            kinds_of.setdefault(_singular(bare), set()).add(kind.name)
    kinds_of[BUILT_UP] = {"building"}
    return {word: frozenset(kinds) for word, kinds in kinds_of.items()}


@cache
def _plurals() -> dict[str, str]:
    """Return a mapping from plural to singular words."""
    singulars = {}
    for kind in tag_table().kinds.values():
        if kind.plural:
            singulars[kind.plural] = kind.name
        for word in kind.others:
            singulars[f"{word}es" if word.endswith(("s", "sh", "ch", "x")) else f"{word}s"] = word
        if kind.setting:
            bare = re.sub(r"^(?:an?|the|a wide) ", "", kind.setting)
            singulars.setdefault(f"{bare}s", bare)
    return {**singulars, **{f"{word}s": word for word in (*UNMAPPED, BUILT_UP)}}


def _singular(word: str) -> str:
    return _plurals().get(word, word)


@lru_cache(64)
def _pattern(own: tuple[str, ...] = ()) -> re.Pattern[str]:
    """Return the pattern of the known nouns and of the kinds that are not in the tag table."""
    more = {*own, *map(plural, own)}
    words = sorted({*_plurals(), *_plurals().values(), *_lexicon_words(), *more}, key=lambda w: (-len(w), w))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, words))})(?![\w-])")


def _lexicon_words() -> set[str]:
    names = {word for kind in tag_table().kinds.values() for word in (kind.name, *kind.others)}
    settings = {re.sub(r"^(?:an?|the|a wide) ", "", k.setting) for k in tag_table().kinds.values() if k.setting}
    return names | settings | set(UNMAPPED) | {BUILT_UP}

"""Captions from facts by seeded templates. The wording varies; every statement is in the facts.

Every random choice is derived from (seed, id of the footprint).
"""

import math
from collections.abc import Sequence
from random import Random

import numpy as np

from lhrs.align.facts import Fact
from lhrs.align.phrases import COMPASS, DIRECTIONS, PLACES, SHARES, join_words, spell_number, to_sentence, with_article
from lhrs.align.tags import tag_table

MAX_COUNT = 99
"""Largest count that a caption states."""
_SETTING_SHARE = 0.42
_MOST_FACTS = 6
_COUNTED_GROUPS = frozenset(["building", "transport", "industry", "leisure", "water"])
_NOT_COUNTED = frozenset(["river", "sea", "runway", "taxiway", "airport apron", "pier", "dam", "golf green"])
_DENSE_SHARE, _DENSE_COUNT = 0.2, 12
BUILT_UP = "built-up area"

_OPENINGS = (
    "{image} of {what}", "{image} showing {what}", "{what} seen from above",
    "this {plain} shows {what}", "the image shows {what}", "an overhead view of {what}",
)  # fmt: skip
_MORE = (
    "there {is_} {what}", "the image also shows {what}", "one can see {what}", "{what} can be seen",
    "there {is_} also {what}",
)  # fmt: skip


def is_counted(kind: str) -> bool:
    """Return whether objects of a kind are countable. Land cover and lines split into ways are not."""
    if kind not in tag_table().kinds:  # a label from a box annotation
        return True
    entry = tag_table().kinds[kind]
    if entry.plural is None or entry.width_m or kind in _NOT_COUNTED or kind.endswith(" area"):
        return False
    return entry.group in _COUNTED_GROUPS


def is_line(fact: Fact) -> bool:
    """Return whether a fact describes lines, such as roads."""
    return fact.length_m > 0 and not fact.area_fraction


def caption(
    facts: Sequence[Fact], identity: str, seed: int = 0, gsd_m: float = 1.0, north_up: bool = False
) -> str | None:
    """Return a caption, or None if nothing is visible.

    Args:
        facts: facts of one footprint, the most specific first.
        identity: id of the footprint.
        seed: seed of the wording.
        gsd_m: ground sampling distance in meters, which determines the words for the image type.
        north_up: whether north is up in the image.
    """
    rng = Random(f"{seed}:{identity}")
    shown = [fact for fact in facts if fact.visible]
    if not shown:
        return None
    setting = next((f for f in shown if f.area_fraction >= _SETTING_SHARE and tag_table().kinds[f.kind].setting), None)
    buildings = next((f for f in shown if f.kind == "building"), None)
    rest = [f for f in _without_repetition(shown) if f is not setting][:_MOST_FACTS]
    phrases: list[tuple[str, bool]] = []
    words = COMPASS if north_up and rng.random() < 0.5 else DIRECTIONS
    for fact in rest:
        phrases.append(_phrase(fact, shown, rng, words))
    if setting is not None:
        what = str(tag_table().kinds[setting.kind].setting)
        if setting.area_fraction < 0.6 and rng.random() < 0.5:
            what = f"{what} {_share(setting, rng)}"
    elif buildings and buildings.area_fraction >= _DENSE_SHARE and buildings.num_visible >= _DENSE_COUNT:
        what = f"{rng.choice(('a', 'a densely'))} {BUILT_UP}"
    else:
        what, _ = phrases.pop(0)
    if phrases and rng.random() < 0.55:
        joined = [phrases.pop(0)[0] for _ in range(min(len(phrases), rng.choice((1, 2, 2, 3))))]
        what = f"{what} with {join_words(joined)}" if " with " not in what else f"{join_words([what, *joined])}"
    image, plain = _image(gsd_m, rng)
    text = [to_sentence(_fill_template(rng, _OPENINGS, "", image=image, plain=plain, what=what))]
    before = ""
    while phrases:
        next_phrases = [phrases.pop(0) for _ in range(min(len(phrases), rng.choice((1, 2, 3))))]
        what = join_words([words_ for words_, _ in next_phrases])
        before = _fill_template(rng, _MORE, before, what=what, is_="are" if next_phrases[0][1] else "is")
        text.append(to_sentence(before))
    return " ".join(text)


def _fill_template(rng: Random, ways: Sequence[str], before: str, what: str, **words: str) -> str:
    """Return a filled-in template that begins neither with digits nor like the previous sentence."""
    able = [way for way in ways if not (way.startswith("{what}") and what[0].isdigit())]
    texts = [way.format(what=what, **words) for way in able]
    return rng.choice([text for text in texts if text.split()[:3] != before.split()[:3]] or texts)


def _without_repetition(facts: Sequence[Fact]) -> list[Fact]:
    """Drop parent kinds that their children fully describe, and children that their parent already covers."""
    kept = []
    for fact in facts:
        children = [f for f in facts if f.parent == fact.kind]
        if fact.kind != "building" and children:
            continue
        if fact.parent == "building" and any(f.kind == "building" and f.num_visible > fact.num_visible for f in facts):
            continue
        if fact.kind == "building" and any(f.num_visible == fact.num_visible for f in children):
            continue
        kept.append(fact)
    return kept


def _phrase(fact: Fact, shown: Sequence[Fact], rng: Random, directions: dict[str, tuple[str, ...]]) -> tuple[str, bool]:
    """Return the phrase for a fact, and whether it is plural."""
    kind = tag_table().kinds[fact.kind]
    many = False
    if is_line(fact):
        many = fact.orientation is None and fact.num_visible > 1
        text = str(kind.plural) if many else with_article(kind.name)
        if many and rng.random() < 0.3:
            text = f"several {text}"
    elif kind.plural is None:
        text = kind.name if rng.random() < 0.7 else f"some {kind.name}"
    elif is_counted(fact.kind):
        many = fact.num_visible > 1
        text = _counted(fact, rng)
        text += _kinds_of(fact, shown)
    else:
        many = fact.num_visible > 1
        text = str(kind.plural) if many else with_article(kind.name)
    if is_line(fact) and fact.orientation and not many and rng.random() < 0.6:
        return f"{text} {rng.choice(directions[fact.orientation])}", many
    fraction = _share(fact, rng)
    if fraction and rng.random() < 0.6 and not text.endswith(")"):
        return f"{text} {fraction}", many
    neighbors = [r.kind for r in fact.relations if r.relation == "beside"]
    if neighbors and rng.random() < 0.4 and not many and any(f.kind == neighbors[0] for f in shown):
        return f"{text} beside {_definite(neighbors[0], shown)}", many
    if fact.position and rng.random() < 0.75 and not text.endswith(")"):
        return f"{text} {rng.choice(PLACES[fact.position])}", many
    return text, many


def _counted(fact: Fact, rng: Random) -> str:
    kind = tag_table().kinds[fact.kind]
    if fact.num_visible == 1:
        return with_article(kind.name)
    if fact.num_visible > MAX_COUNT:
        return f"more than {(fact.num_visible - 1) // 50 * 50} {kind.plural}"
    rounded = round(fact.num_visible / 5) * 5
    if fact.num_visible > 12 and fact.num_visible != rounded and rng.random() < 0.3:
        return f"about {rounded} {kind.plural}"
    if fact.num_visible > 4 and rng.random() < 0.15:
        return f"{rng.choice(('several', 'a number of'))} {kind.plural}"
    return f"{spell_number(fact.num_visible)} {kind.plural}"


def _kinds_of(fact: Fact, shown: Sequence[Fact]) -> str:
    children = [f for f in shown if f.parent == fact.kind and 0 < f.num_visible < fact.num_visible][:2]
    if not children:
        return ""
    named = [
        with_article(f.kind)
        if f.num_visible == 1
        else f"{spell_number(f.num_visible)} {tag_table().kinds[f.kind].plural}"
        for f in children
    ]
    return f" (among them {' and '.join(named)})"


def _definite(kind: str, shown: Sequence[Fact]) -> str:
    entry = tag_table().kinds[kind]
    fact = next(f for f in shown if f.kind == kind)
    several = entry.plural is not None and (fact.num_visible > 1 and (is_counted(kind) or fact.orientation is None))
    if several:
        return f"one of the {entry.plural}" if is_counted(kind) else f"the {entry.plural}"
    return f"the {entry.name}"


def _share(fact: Fact, rng: Random) -> str:
    ways = next((ways for low, high, ways in SHARES if low <= fact.area_fraction < high), None)
    return rng.choice(ways) if ways else ""


def _image(gsd_m: float, rng: Random) -> tuple[str, str]:
    """Return the words for the image type, with and without an article."""
    names = ("aerial image", "aerial photo", "high-resolution aerial image") if gsd_m < 1.5 else (
        "satellite image", "overhead image"
    )  # fmt: skip
    name = rng.choice(names)
    return with_article(name), name


def is_north_up(corners: np.ndarray) -> bool:
    """Return whether north is up within a few degrees, from `(4, 2)` corners. Compass words require this."""
    east, north = corners[0] - corners[3]
    return bool(north > 0 and abs(east) * math.cos(math.radians(corners[0, 1])) < 0.1 * north)

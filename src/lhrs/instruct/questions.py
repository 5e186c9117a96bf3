"""Turn image facts into questions and answers for the embedded model.

Each task is one function `(facts, draw) -> (question, answer) | None`; None means that the facts do not support it.
Answers are lower case. Options, regions, nouns and phrasings are drawn from the banks, so two draws seldom look
alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lhrs.boxes import format_boxes
from lhrs.instruct.banks import ABSTAIN, Banks, Noun, noun
from lhrs.instruct.facts import QUADRANTS, REGIONS, ImageFacts

LETTERS = "abcdefghij"
MAX_BOXES = 24
"""Images with more buildings are not asked for boxes: the answer would not fit."""

# Classes that could describe the same image; never offered against each other as wrong options across data sets.
_KIN = [
    {"Forest", "forest"},
    {"River", "river", "SeaLake", "beach", "harbor", "water"},
    {
        "Residential",
        "denseresidential",
        "mediumresidential",
        "sparseresidential",
        "mobilehomepark",
        "buildings",
        "building",
    },
    {
        "AnnualCrop",
        "PermanentCrop",
        "Pasture",
        "agricultural",
        "HerbaceousVegetation",
        "chaparral",
        "golfcourse",
        "vegetation",
        "land",
        "baseballdiamond",
        "beach",
    },
    {"Highway", "freeway", "overpass", "intersection", "runway", "airplane", "road", "parkinglot"},
    {
        "Industrial",
        "buildings",
        "storagetanks",
        "parkinglot",
        "harbor",
        "mobilehomepark",
        "building",
        "denseresidential",
    },
]

# UC Merced classes whose objects are surely absent where another class is labelled; houses or roads are not such.
_UNMISTAKABLE = (
    "airplane",
    "baseballdiamond",
    "beach",
    "golfcourse",
    "harbor",
    "mobilehomepark",
    "runway",
    "storagetanks",
    "tenniscourt",
    "overpass",
)


@dataclass
class Draw:
    """One draw's randomness and the phrasings it may use ("train" or "held_out")."""

    rng: np.random.Generator
    banks: Banks
    split: str = "train"

    def pick(self, items: list[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def pick_some(self, items: list[Any], count: int) -> list[Any]:
        """Return distinct items in random order."""
        return [items[int(i)] for i in self.rng.permutation(len(items))[:count]]

    def phrase(self, task: str) -> str:
        return self.pick(self.banks.questions[task][self.split])

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)


QA = tuple[str, str]


def scene(facts: ImageFacts, draw: Draw) -> QA | None:
    """Free-text class of the whole image."""
    if facts.scene is None:
        return None
    return draw.phrase("scene"), draw.banks.name(facts.vocabulary, facts.scene)


def _label(draw: Draw, vocabulary: str, key: str, synonyms: bool) -> str:
    entry = draw.banks.classes[vocabulary][key]
    if synonyms and entry.get("scene_synonyms") and draw.chance(0.35):
        return draw.pick(entry["scene_synonyms"])
    return entry["name"]


def _options(facts: ImageFacts, draw: Draw, count: int) -> tuple[list[str], str]:
    """Return distinct option texts in random order, and the right one."""
    keys = [(facts.vocabulary, k) for k in draw.banks.classes[facts.vocabulary] if k != facts.scene]
    if draw.chance(0.25):  # options from other sets too, where they cannot be right
        kin = set().union(*(g for g in _KIN if facts.scene in g))
        keys += [
            (v, k)
            for v in ("eurosat", "ucmerced")
            if v != facts.vocabulary
            for k in draw.banks.classes[v]
            if k not in kin
        ]
    synonyms = draw.chance(0.4)
    assert facts.scene is not None  # callers ask for options of a known class only
    right = _label(draw, facts.vocabulary, facts.scene, synonyms)
    texts = [right]
    for i in draw.rng.permutation(len(keys)):
        vocabulary, key = keys[i]
        text = _label(draw, vocabulary, key, synonyms)
        if text not in texts:
            texts.append(text)
        if len(texts) == count:
            break
    return [texts[i] for i in draw.rng.permutation(len(texts))], right


def scene_options(facts: ImageFacts, draw: Draw) -> QA | None:
    """Class of the image among listed options; the answer repeats the option."""
    if facts.scene is None:
        return None
    every = len(draw.banks.classes[facts.vocabulary])
    count = every if draw.chance(0.25) else int(draw.rng.integers(2, 9))
    texts, right = _options(facts, draw, count)
    style = int(draw.rng.integers(6))
    if style == 0:
        listed = ", ".join(texts[:-1]) + f" or {texts[-1]}"
    else:
        listed = (", ", ", ", " / ", "; ", "\n")[style - 1].join(texts)
    if draw.chance(0.35):  # how a question and a list of options are joined at inference
        return f"{draw.phrase('scene')} options: {listed}.", right
    return draw.phrase("scene_options").replace("{options}", listed), right


def choice(facts: ImageFacts, draw: Draw) -> QA | None:
    """Lettered multiple choice; the answer is the letter."""
    if facts.scene is None:
        return None
    texts, right = _options(facts, draw, 4 if draw.chance(0.6) else int(draw.rng.integers(2, 7)))
    lines = _lettered(texts, draw)
    question = draw.phrase("choice").replace("{options}", lines).replace("{question}", draw.phrase("scene"))
    return question, LETTERS[texts.index(right)]


_LOOKUPS = (
    "which letter stands for {name}?\n{options}",
    "{options}\nwhich letter is {name}?",
    "find {name} in the list.\n{options}\nanswer with the letter.",
    "letter of {name}?\n{options}",
)


def lookup(facts: ImageFacts, draw: Draw) -> QA:
    """Which letter a named option has: the half of multiple choice that needs no image, and forms first."""
    vocabulary = draw.pick(["eurosat", "ucmerced"])
    keys = draw.pick_some(list(draw.banks.classes[vocabulary]), int(draw.rng.integers(2, 7)))
    names = [draw.banks.name(vocabulary, k) for k in keys]
    at = int(draw.rng.integers(len(names)))
    lines = _lettered(names, draw)
    return draw.pick(list(_LOOKUPS)).replace("{name}", names[at]).replace("{options}", lines), LETTERS[at]


def _lettered(texts: list[str], draw: Draw) -> str:
    mark = draw.pick(["{}. ", "{}) ", "({}) ", "{}: "])
    glue = "\n" if draw.chance(0.75) else " "
    return glue.join(mark.format(LETTERS[i]) + t for i, t in enumerate(texts))


def _yes_no(draw: Draw, thing: Noun) -> str:
    """Phrase a presence question that is grammatical for the noun."""
    pool = list(draw.banks.questions["presence"][draw.split])
    extra = draw.banks.questions["presence_mass" if thing.mass else "presence_plural"][draw.split]
    text = draw.pick(pool if draw.chance(0.7) else extra)
    return text.replace("{a_thing}", thing.a_thing).replace("{things}", thing.things).replace("{thing}", thing.thing)


def _known(facts: ImageFacts, draw: Draw) -> tuple[list[Noun], list[Noun]]:
    """Return nouns that are surely present and surely absent."""
    banks, yes, no = draw.banks, [], []
    if facts.scene is not None:
        yes.append(banks.noun(facts.vocabulary, facts.scene))
        kin = set().union(*(g for g in _KIN if facts.scene in g), {facts.scene})
        others = banks.classes["eurosat"] if facts.vocabulary == "eurosat" else _UNMISTAKABLE
        no += [banks.noun(facts.vocabulary, k) for k in others if k not in kin]
        for entry in banks.attributes.values():
            sets = entry.get(facts.vocabulary) or {}
            if facts.scene in (sets.get("yes") or []):
                yes.append(noun(entry))
            elif facts.scene in (sets.get("no") or []):
                no.append(noun(entry))
    if facts.cover is not None and facts.scene is None:
        for key in facts.classes:
            share = facts.share(key)
            if share > 0.04:
                yes.append(banks.noun(facts.vocabulary, key))
            elif share == 0 and facts.labelled() > 0.95:
                no.append(banks.noun(facts.vocabulary, key))
    if facts.buildings is not None and len(facts.buildings):
        yes += banks.building_words
    return yes, no


def presence(facts: ImageFacts, draw: Draw) -> QA | None:
    """Yes/no about a thing; as many yes as no."""
    yes, no = _known(facts, draw)
    if draw.chance(0.5) and yes:
        return _yes_no(draw, yes[0] if draw.chance(0.5) else draw.pick(yes)), "yes"
    pool = no if no and draw.chance(0.85) else draw.banks.absent
    return _yes_no(draw, draw.pick(pool)), "no"


def is_class(facts: ImageFacts, draw: Draw) -> QA | None:
    """Yes/no about the class of the whole image."""
    if facts.scene is None:
        return None
    key, answer = facts.scene, "yes"
    if draw.chance(0.5):
        key, answer = draw.pick([k for k in draw.banks.classes[facts.vocabulary] if k != facts.scene]), "no"
    thing = draw.banks.noun(facts.vocabulary, key)
    name = draw.banks.name(facts.vocabulary, key)
    return draw.phrase("is_class").replace("{a_thing}", thing.a_thing).replace("{thing}", name), answer


def caption(facts: ImageFacts, draw: Draw) -> QA | None:
    """One sentence that names what is known."""
    if facts.scene is not None:
        captions = draw.banks.classes[facts.vocabulary][facts.scene]["captions"]
        return draw.phrase("caption"), captions[0] if draw.chance(0.5) else draw.pick(captions)
    if facts.buildings is not None:
        count = len(facts.buildings)
        if not 1 <= count <= 60:
            return None
        return draw.phrase("caption"), f"an aerial image with {count} building{'s' if count > 1 else ''}."
    if facts.vocabulary == "dubai" and facts.cover is not None:
        shares = sorted(((facts.share(k), k) for k in facts.classes), reverse=True)
        names = [draw.banks.name("dubai", k) for s, k in shares if s > 0.08]
        if not names or facts.labelled() < 0.8:
            return None
        rest = f" with some {' and '.join(names[1:3])}" if len(names) > 1 else ""
        return draw.phrase("caption"), f"an aerial image of mostly {names[0]}{rest}."
    return None


def region(facts: ImageFacts, draw: Draw) -> QA | None:
    """What covers a named part of the image."""
    if facts.cover is None:
        return None
    name = draw.pick(list(REGIONS) if facts.vocabulary == "dubai" else list(QUADRANTS))
    key = facts.dominant(name)
    if key is None:
        return None
    word = draw.pick([name, *draw.banks.regions.get(name, [])])
    return draw.phrase("region").replace("{region}", word), draw.banks.name(facts.vocabulary, key)


def where(facts: ImageFacts, draw: Draw) -> QA | None:
    """Which quadrant holds a class; asked only when one quadrant holds nearly all of it."""
    if facts.cover is None:
        return None
    keys = [k for k in facts.classes if facts.share(k) > 0.03]
    keys = [k for k in keys if max(facts.share(k, q) for q in QUADRANTS) > 0.85 * 4 * facts.share(k)]
    if not keys:
        return None
    key = draw.pick(keys)
    best = max(QUADRANTS, key=lambda q: facts.share(key, q))
    thing = draw.banks.noun(facts.vocabulary, key)
    return draw.phrase("where").replace("{thing}", thing.thing).replace("{things}", thing.things), best


def dominant(facts: ImageFacts, draw: Draw) -> QA | None:
    """What covers most of the image."""
    if facts.cover is None or facts.vocabulary != "dubai":
        return None
    key = facts.dominant(least=0.5)
    return None if key is None else (draw.phrase("dominant"), draw.banks.name("dubai", key))


def count(facts: ImageFacts, draw: Draw) -> QA | None:
    """Number of buildings; where single buildings cannot be seen (10 m scenes), that it cannot be told."""
    word = draw.pick(draw.banks.building_words)
    question = draw.phrase("count").replace("{things}", word.things).replace("{thing}", word.thing)
    if facts.vocabulary == "eurosat" and facts.scene is not None:
        return question, ABSTAIN
    if facts.buildings is None or len(facts.buildings) > 99 or not len(facts.buildings):
        return None
    return question, str(len(facts.buildings))


def ground(facts: ImageFacts, draw: Draw) -> QA | None:
    """Boxes of all buildings in reading order."""
    if facts.buildings is None or not 1 <= len(facts.buildings) <= MAX_BOXES:
        return None
    word = draw.pick(draw.banks.building_words)
    question = draw.phrase("ground").replace("{things}", word.things).replace("{thing}", word.thing)
    return question, boxes_text(reading_order(facts.buildings))


def ground_one(facts: ImageFacts, draw: Draw) -> QA | None:
    """The box of one building that an expression singles out."""
    found = referring(facts, draw)
    if found is None:
        return None
    expression, box = found
    return draw.phrase("ground_one").replace("{expression}", expression), boxes_text(box[None])


def referring(facts: ImageFacts, draw: Draw) -> tuple[str, np.ndarray] | None:
    """Return an expression that fits exactly one building clearly, and its box; None when there is none."""
    if facts.buildings is None or not len(facts.buildings):
        return None
    b = facts.buildings
    word = draw.pick(draw.banks.building_words).thing
    centre = (b[:, :2] + b[:, 2:]) / 2
    area = (b[:, 2:] - b[:, :2]).prod(1)
    candidates: list[tuple[str, np.ndarray]] = []
    order = area.argsort()[::-1]
    if len(b) == 1 or area[order[0]] > 1.2 * area[order[1]]:
        candidates += [(f"the largest {word}", b[order[0]]), (f"the biggest {word}", b[order[0]])]
    if len(b) == 1:
        candidates.append((f"the {word}", b[0]))
    corners = {
        "top left": (0, 0),
        "top right": (1, 0),
        "bottom left": (0, 1),
        "bottom right": (1, 1),
        "centre": (0.5, 0.5),
    }
    for name, corner in corners.items():
        distance = np.linalg.norm(centre - np.array(corner), axis=1)
        near = distance.argsort()
        if len(b) > 1 and distance[near[0]] < 0.45 and distance[near[1]] - distance[near[0]] > 0.06:
            spot = draw.pick([name, *draw.banks.regions.get(name, [])]) if name != "centre" else "centre"
            candidates.append((f"the {word} nearest the {spot}", b[near[0]]))
            candidates.append((f"the {word} in the {spot}", b[near[0]]))
    return draw.pick(candidates) if candidates else None


def abstain(facts: ImageFacts, draw: Draw) -> QA:
    """A question that no overhead image answers, or that the model was never taught."""
    bank = draw.banks.unanswerable
    roll = draw.rng.random()
    if draw.split == "train" and roll < 0.35 and bank.get("templates"):
        template = draw.pick(bank["templates"])
        text = template["text"] if isinstance(template, dict) else template
        slots = template if isinstance(template, dict) else bank
        for slot in ("property", "noun", "person", "place", "thing", "time"):
            if "{" + slot + "}" in text:
                text = text.replace("{" + slot + "}", draw.pick(slots[slot]))
        return text, ABSTAIN
    if draw.split == "train" and roll < 0.45:  # boxes and counts of things never taught
        thing = draw.pick([n for n in draw.banks.absent if not n.mass])
        task = "ground" if draw.chance(0.5) else "count"
        return draw.phrase(task).replace("{things}", thing.things).replace("{thing}", thing.thing), ABSTAIN
    return draw.pick(bank[draw.split]), ABSTAIN


TASKS: dict[str, Callable[[ImageFacts, Draw], QA | None]] = {
    f.__name__: f
    for f in (
        scene,
        scene_options,
        choice,
        lookup,
        presence,
        is_class,
        caption,
        region,
        where,
        dominant,
        count,
        ground,
        ground_one,
        abstain,
    )
}


def reading_order(boxes: np.ndarray) -> np.ndarray:
    """Sort boxes in rows of an eighth of the image, then left to right."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return boxes[np.lexsort((centre[:, 0], np.floor(centre[:, 1] * 8)))]


def boxes_text(boxes: np.ndarray) -> str:
    """Write unit boxes as location tokens."""
    return format_boxes(boxes, (1, 1), "loc64")


_OPENERS = ("please, ", "question: ", "tell me: ", "hi, ", "quick question: ", "looking at this image, ")
_CLOSERS = (" please.", " answer briefly.", " short answer please.", " thanks.")


def dress(question: str, draw: Draw) -> str:
    """Vary punctuation and politeness, as people do."""
    if draw.chance(0.12):
        question = question.rstrip("?. ")
    if draw.chance(0.06):
        question = draw.pick(list(_OPENERS)) + question
    if draw.chance(0.06):
        question = question + draw.pick(list(_CLOSERS))
    return question

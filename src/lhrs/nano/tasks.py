"""Turn image facts into questions and answers for the embedded model.

Each task is one function `(facts, draw) -> (question, answer) | None`; None means that the facts do not support it.
Answers are lower case. Options, regions, nouns and phrasings are drawn from the banks, so two draws seldom look
alike.
"""

from collections.abc import Callable

from lhrs.nano.building_tasks import count, ground, ground_one
from lhrs.nano.image_facts import QUADRANTS, REGIONS, ImageFacts
from lhrs.nano.phrasing import QA, Draw
from lhrs.nano.templates import ABSTAIN, Noun, noun

LETTERS = "abcdefghij"

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
    if draw.chance(0.2):  # labels of data sets: "mobilehomepark"
        texts, right = [t.replace(" ", "") for t in texts], right.replace(" ", "")
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
    question = draw.phrase("choice").replace("{question}", draw.phrase("scene"))
    return question.replace("{options}", _lettered(texts, draw)), LETTERS[texts.index(right)]


def choice_two(facts: ImageFacts, draw: Draw) -> QA | None:
    """Choose between two classes of one set, always asked alike: where learning to choose begins."""
    return _plain_choice(facts, draw, 2)


def choice_four(facts: ImageFacts, draw: Draw) -> QA | None:
    """Choose among three or four classes of one set, always asked alike."""
    return _plain_choice(facts, draw, 3 + int(draw.chance(0.5)))


def _plain_choice(facts: ImageFacts, draw: Draw, count: int) -> QA | None:
    if facts.scene is None:
        return None
    others = [key for key in draw.banks.classes[facts.vocabulary] if key != facts.scene]
    keys = draw.pick_some([facts.scene, *draw.pick_some(others, count - 1)], count)
    lines = "\n".join(f"{LETTERS[n]}. {draw.banks.name(facts.vocabulary, key)}" for n, key in enumerate(keys))
    question = draw.banks.questions["choice"]["train"][0].replace("{question}", "what is this?")
    return question.replace("{options}", lines), LETTERS[keys.index(facts.scene)]


_LOOKUPS = (
    "{options}\nwhich letter is {name}?",
    "which letter stands for {name}?\n{options}",
    "find {name} in the list.\n{options}\nanswer with the letter.",
    "letter of {name}?\n{options}",
)


def _lookup(facts: ImageFacts, draw: Draw, count: int, every_name: bool, plain: bool) -> QA:
    """Which letter a named option has: the half of multiple choice that needs no image.

    Args:
        facts: not used.
        draw: randomness.
        count: options at most.
        every_name: name classes of all sets with their synonyms, not the ten of EuroSAT alone.
        plain: one wording and one style of letters.
    """
    vocabularies = ("eurosat", "ucmerced") if every_name else ("eurosat",)
    keys = [(v, k) for v in vocabularies for k in draw.banks.classes[v]]
    names: list[str] = []
    for vocabulary, key in draw.pick_some(keys, int(draw.rng.integers(2, count + 1))):
        name = _label(draw, vocabulary, key, synonyms=every_name)
        names += [name] if name not in names else []
    at = int(draw.rng.integers(len(names)))
    lines = "\n".join(f"{LETTERS[n]}. {name}" for n, name in enumerate(names)) if plain else _lettered(names, draw)
    text = _LOOKUPS[0] if plain else draw.pick(list(_LOOKUPS))
    return text.replace("{name}", names[at]).replace("{options}", lines), LETTERS[at]


def lookup_two(facts: ImageFacts, draw: Draw) -> QA:
    """Look up one of two options. Small models find out how only when they begin here; see the embedded recipes."""
    return _lookup(facts, draw, 2, every_name=False, plain=True)


def lookup_three(facts: ImageFacts, draw: Draw) -> QA:
    """Look up one of up to three options of any set."""
    return _lookup(facts, draw, 3, every_name=True, plain=True)


def lookup(facts: ImageFacts, draw: Draw) -> QA:
    """Look up one of up to six options, however they are written."""
    return _lookup(facts, draw, 6, every_name=True, plain=False)


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
            elif share == 0 and facts.labeled() > 0.95:
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
        if not names or facts.labeled() < 0.8:
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
        choice_two,
        choice_four,
        choice,
        lookup_two,
        lookup_three,
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

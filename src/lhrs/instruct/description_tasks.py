"""Tasks about the whole image (LHRS-Instruct): detailed descriptions, reasoning over facts, scene classes."""

from random import Random

from lhrs.align.caption_templates import is_counted, is_line
from lhrs.align.facts import Fact
from lhrs.align.phrases import DIRECTIONS, PLACES, join_words, spell_number, to_sentence, with_article
from lhrs.align.tags import tag_table
from lhrs.instruct.annotations import ImageAnnotations, Vocabulary
from lhrs.instruct.class_names import describe_class
from lhrs.instruct.qa import QAPair, TaskFn

_DETAIL = (
    "Describe the image in detail.", "What does this image show? Be thorough.", "Give a detailed description.",
    "Explain everything that can be seen in this image.",
)  # fmt: skip
_CAPTION = (
    "Describe the image.", "Describe the image in one sentence.", "Describe this overhead image in one sentence.",
    "What does the image show?", "Give a short description.", "Write a caption for this image.",
    "Summarize what can be seen.", "What can be seen in this image?", "What is this?", "Caption the image.",
)  # fmt: skip
_CLASS_CAPTIONS = (
    "An aerial image of {}.", "An overhead view of {}.", "A view of {} from above.", "The image shows {}.",
    "This is {} seen from above.", "An image of {} from the air.",
)  # fmt: skip
_SCENE = (
    "What kind of scene is this?", "Classify the image.", "Which class does this image belong to?",
    "What is the land use in this image?", "What is the land cover in this image?", "What type of area is this?",
    "What kind of area is shown?", "Name the scene class.", "What is the category of this image?",
    "What is shown here? Answer with a class name.", "How is this land used?", "What is the main class of this image?",
    "What is the land use in this overhead image? Answer with a few words only.", "Which scene is this?",
    "Label the image.", "In a few words, what is this place?",
)  # fmt: skip
_MOST_OPTIONS = 12
_SCENE_OPTIONS = (
    "Which of these classes describes the image best: {}?", "What is shown: {}?", "Choose the class of this image: {}.",
    "Classify the image as one of: {}.", "What kind of area is this? Options: {}.", "Is it one of these: {}? Which?",
    "Which of these describes this overhead image best: {}? Answer with the class only.",
)  # fmt: skip
_SCENE_CHECK = (
    'Is the class of this image "{}"?', 'Would you call this scene "{}"?', "Is this a scene of the class {}?",
    'Does the label "{}" fit this image?', "Would {} be the right class for this image?",
    'Does this image belong to the class "{}"?', "Is {} the main land use here?", "Is this image best described as {}?",
)  # fmt: skip
_WAYS = ("motorway", "main road", "local road", "service road", "dirt track", "railway track", "tram track",
         "cycle path", "footpath", "pedestrian street")  # fmt: skip
_WATER = ("river", "body of water", "stream", "canal", "sea", "basin")
_GREEN = ("forest", "park", "meadow", "grass", "garden", "farmland", "orchard", "vineyard", "grassland", "scrub")


def detail(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Describe every visible fact."""
    shown = _shown(annotations)
    if len(shown) < 2:
        return None
    lines = [to_sentence(_statement(fact, rng)) for fact in shown[:10]]
    names = {fact.kind for fact in shown[:10]}
    for fact in shown[:10]:
        for relation in fact.relations:
            if relation.kind in names:
                lines.append(to_sentence(_related(fact, relation.relation, relation.kind)))
    return QAPair("detailed description", rng.choice(_DETAIL), " ".join(lines))


def land_use(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the main land use, with the evidence."""
    land = [f for f in _shown(annotations) if tag_table().kinds[f.kind].setting and not is_line(f)]
    if not land or land[0].area_fraction < 0.4:
        return None
    first = land[0]
    setting = str(tag_table().kinds[first.kind].setting)
    evidence = [f"{setting} covers about {round(first.area_fraction * 100, -1):.0f} percent of the image"]
    evidence += [_short(f) for f in _shown(annotations) if f.group == "building" or f.group == first.group][1:3]
    question = rng.choice(("What is this area mainly used for, and what shows it?",
                           "What is the main land use here? Give reasons."))  # fmt: skip
    return QAPair("reasoning", question, f"Mainly {setting}: {join_words([e for e in evidence if e])}.")


def density(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the building density where it is high, with the evidence."""
    buildings = next((f for f in _shown(annotations) if f.kind == "building"), None)
    if buildings is None or buildings.area_fraction < 0.2:  # few on the map may be many on the ground
        return None
    percent = f"{max(1, round(buildings.area_fraction * 100))} percent"
    question = rng.choice(
        ("Is this area densely or sparsely built on? Why?", "How dense are the buildings here? Explain.")
    )
    return QAPair(
        "reasoning", question,
        f"It is densely built on: {_amount(buildings)} cover about {percent} of the image.",
    )  # fmt: skip


def access(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """List roads, paths and tracks."""
    ways = [f for f in _shown(annotations) if f.kind in _WAYS and is_line(f)]
    if not ways:
        return None
    names = list(
        dict.fromkeys(
            str(tag_table().kinds[f.kind].plural) if f.num_visible > 1 else with_article(f.kind) for f in ways
        )
    )
    question = rng.choice(("How can this place be reached?", "What ways lead through this area?"))
    return QAPair("reasoning", question, f"By {join_words(names[:4])}, which can be seen in the image.")


def nature(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """List vegetation and water."""
    nature_facts = [f for f in _shown(annotations) if f.kind in (*_WATER, *_GREEN)]
    if not nature_facts:
        return None
    question = rng.choice(
        ("What vegetation and water can be seen, and where?", "Which natural features does the image show?")
    )
    return QAPair(
        "reasoning", question, to_sentence(f"the image shows {join_words([_placed(f, rng) for f in nature_facts[:4]])}")
    )


def caption(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Describe an image by its scene class."""
    if annotations.scene is None:
        return None
    answer = rng.choice(_CLASS_CAPTIONS).format(describe_class(annotations.scene))
    return QAPair("caption", rng.choice(_CAPTION), answer)


def scene(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the scene class."""
    if annotations.scene is None:
        return None
    return QAPair("scene", rng.choice(_SCENE), annotations.scene, distractors=annotations.negative_scenes)


def scene_options(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the scene class, one of several that the question lists."""
    if annotations.scene is None or not annotations.negative_scenes:
        return None
    most = min(len(annotations.negative_scenes), _MOST_OPTIONS - 1)
    options = [annotations.scene, *rng.sample(annotations.negative_scenes, rng.randint(1, most))]
    rng.shuffle(options)
    question = rng.choice(_SCENE_OPTIONS).format(", ".join(options))
    return QAPair("scene options", question, annotations.scene)


def is_scene(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Verify a scene class, yes and no equally often."""
    if annotations.scene is None or not annotations.negative_scenes:
        return None
    yes = rng.random() < 0.5
    name = annotations.scene if yes else rng.choice(annotations.negative_scenes)
    return QAPair(
        "scene check", rng.choice(_SCENE_CHECK).format(name), "yes" if yes else "no",
        distractors=("no" if yes else "yes",),
    )  # fmt: skip


TASKS: dict[str, TaskFn] = {
    "detail": detail, "land-use": land_use, "density": density, "access": access, "nature": nature,
    "caption": caption, "scene": scene, "scene-options": scene_options, "scene-check": is_scene,
}  # fmt: skip


def _shown(annotations: ImageAnnotations) -> list[Fact]:
    parents = {fact.parent for fact in annotations.facts if fact.visible}
    return [f for f in annotations.facts if f.visible and (f.kind not in parents or f.kind == "building")]


def _amount(fact: Fact) -> str:
    kind = tag_table().kinds[fact.kind]
    if kind.plural is None:
        return kind.name
    if is_counted(fact.kind):
        return f"{spell_number(fact.num_visible)} {kind.plural}" if fact.num_visible > 1 else with_article(kind.name)
    return kind.plural if fact.num_visible > 1 else with_article(kind.name)


def _short(fact: Fact) -> str:
    return f"there {'are' if fact.num_visible > 1 and tag_table().kinds[fact.kind].plural else 'is'} {_amount(fact)}"


def _placed(fact: Fact, rng: Random) -> str:
    return f"{_amount(fact)} {rng.choice(PLACES[fact.position])}" if fact.position else _amount(fact)


def _statement(fact: Fact, rng: Random) -> str:
    many = fact.num_visible > 1 and tag_table().kinds[fact.kind].plural is not None
    text = f"there {'are' if many else 'is'} {_amount(fact)}"
    if is_line(fact) and fact.orientation and not many:
        return f"{text} {rng.choice(DIRECTIONS[fact.orientation])}"
    if fact.position:
        return f"{text} {rng.choice(PLACES[fact.position])}"
    if fact.area_fraction >= 0.05:
        return (
            f"{text}, {'which together cover' if many else 'which covers'} about {_percent(fact)} percent of the image"
        )
    return text


def _related(fact: Fact, relation: str, kind: str) -> str:
    verb = {"beside": "lies beside", "inside": "lies in", "crosses": "crosses"}[relation]
    return f"{with_article(fact.kind) if tag_table().kinds[fact.kind].plural else fact.kind} {verb} the {kind}"


def _percent(fact: Fact) -> int:
    return max(5, 5 * round(fact.area_fraction * 20))

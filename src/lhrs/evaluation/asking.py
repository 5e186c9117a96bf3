"""How a benchmark's questions are put to a model, and what of its reply is kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from lhrs.evaluation.benchmark import Item, Metric
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.runtime import Generation, Request
from lhrs.metrics.labels import rotations
from lhrs.metrics.parse import LETTERS

PROTOCOLS = ("free", "constrained", "circular", "reordered")
"""`free`: the model writes what it will, parsed strictly. `constrained`: it can write nothing but an option, where
there are options. `circular`: choices are asked once for each rotation of their options, freely; right if all are.
`reordered`: as `free`, with options of choices in an order drawn from the question's id, the same for every model: a
benchmark that was learnt by the letter is not known any more."""
VARIANTS = ("asked", "blind", "shuffled")
"""With its image, with none, with another's: what a model knows without looking is not seeing."""
_LENGTHS = {"classify": 32, "vqa": 32, "count": 16, "choice": 16, "grounding": 64, "caption": 128,
            "honesty": 64}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One question as it is put."""

    item: Item
    rotation: int
    prompt: str
    choices: tuple[str, ...] | None
    """What the reply is restricted to."""


def put(items: Sequence[Item], metric: Metric, family: ModelFamily, protocol: str) -> list[Asked]:
    """Return the questions as they are put to a model."""
    found = []
    for given in items:
        item = _reordered(given) if metric == "choice" and protocol == "reordered" else given
        if metric == "choice" and protocol == "circular":
            for n, (options, answer) in enumerate(rotations(item.options, item.answer)):  # type: ignore[type-var]
                turned = replace(item, options=tuple(options), answer=answer)
                found.append(Asked(turned, n, _prompt(turned, metric, family), None))
        else:
            found.append(Asked(item, 0, _prompt(item, metric, family), _choices(item, metric, protocol)))
    return found


def _reordered(item: Item) -> Item:
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(item.id.encode()).digest()[:8]))
    order = rng.permutation(len(item.options)).tolist()
    places = {old: new for new, old in enumerate(order)}
    answer = tuple(sorted(places[a] for a in item.answer)) if isinstance(item.answer, tuple) else places[item.answer]  # type: ignore[index]
    return replace(item, options=tuple(item.options[old] for old in order), answer=answer)


def _prompt(item: Item, metric: Metric, family: ModelFamily) -> str:
    if metric == "classify":
        return family.classify_prompt.replace("{options}", ", ".join(_plain(option) for option in item.options))
    if metric == "choice" or (metric == "honesty" and item.options):
        lines = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, item.options, strict=False))
        choose = family.choose_all_prompt if isinstance(item.answer, tuple) else family.choose_prompt
        return choose.replace("{question}", item.question).replace("{options}", lines)
    if metric == "honesty":  # asked for one word only, nobody could deny a premise
        return family.ask_prompt.replace("{question}", item.question)
    if metric == "grounding":
        return family.ground_prompt.replace("{expression}", item.question)
    if metric == "caption":
        return item.question or family.caption_prompt
    return family.short_prompt.replace("{question}", item.question)


def _choices(item: Item, metric: Metric, protocol: str) -> tuple[str, ...] | None:
    if protocol != "constrained" or not item.options:
        return None
    if metric == "classify":
        return tuple(_plain(o) for o in item.options)
    letters = LETTERS[: len(item.options)]
    most = len(letters) if isinstance(item.answer, tuple) else 1
    return tuple(", ".join(some) for size in range(1, most + 1) for some in combinations(letters, size))


def _plain(label: str) -> str:
    from lhrs.metrics.parse import label_key

    return label_key(label)


def order_of(item: Item) -> str:
    """Return a hash of a question's options in the order shown: a letter means something in that order only."""
    return hashlib.sha256(json.dumps(item.options, ensure_ascii=False).encode()).hexdigest()[:8]


def request(asked: Asked, metric: Metric, pixels: tuple[np.ndarray, ...]) -> Request:
    """Return what a runtime is asked."""
    form = "boxes" if metric == "grounding" else "text"
    return Request(pixels, asked.prompt, asked.choices, form, max_new_tokens=_LENGTHS[metric])  # type: ignore[arg-type]


def kept(reply: Generation, metric: Metric, size_wh: tuple[int, int]) -> dict[str, object]:
    """Return what is stored of a reply: its text, its confidence, its boxes in pixels of the image."""
    confidence = reply.sequence_probability
    found: dict[str, object] = {
        "prediction": reply.text, "confidence": None if confidence is None else round(confidence, 6)
    }  # fmt: skip
    if metric == "grounding":
        found["boxes"] = [[round(float(v), 3) for v in box] for box in reply.boxes * np.tile(size_wh, 2)]
    return found


def record(asked: Asked, row: dict, metric: Metric) -> dict:
    """Return a record for `lhrs.metrics.records`."""
    item = asked.item
    prediction = row["boxes"] if metric == "grounding" else row["prediction"]
    found = {"prediction": prediction, "answer": item.answer, "options": item.options or None, "type": item.type,
             "confidence": row["confidence"], "group": item.id, "answerable": item.answerable}  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}

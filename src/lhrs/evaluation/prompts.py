"""How the questions of a benchmark are asked: protocols, orders of options, and the words of a model family."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lhrs import fingerprint
from lhrs.evaluation.benchmark import Item
from lhrs.inference.model_family import ModelFamily
from lhrs.metrics.answer_parsing import LETTERS
from lhrs.metrics.choice import rotations
from lhrs.metrics.metric import Metric, Prompt

PROTOCOLS = ("free", "constrained", "circular", "shuffled-options")
"""`free`: the model writes any text, which is parsed strictly. `constrained`: it can only write an option, if
there are options. `circular`: multiple-choice questions are asked once for each rotation of their options; all must be
correct. `shuffled-options`: as `free`, with the options in an order derived from the question's id, the same for every
model; this reveals memorized letters and position bias."""
VARIANTS = ("normal", "blind", "shuffled")
"""With the image, without an image, and with the image of another question. The last two are baselines."""


@dataclass(frozen=True)
class PromptedItem:
    """One question as it is asked."""

    item: Item
    rotation: int
    prompt: str
    choices: tuple[str, ...] | None
    """The only answers that the model can give; None if it can write any text."""


def build_prompts(items: Sequence[Item], metric: Metric, family: ModelFamily, protocol: str) -> list[PromptedItem]:
    """Return the questions as a model family is asked under a protocol."""
    prompted = []
    for item in items:
        for rotation, shown in _option_orders(item, metric, protocol):
            choices = metric.allowed_answers(shown) if protocol == "constrained" else None
            prompted.append(PromptedItem(shown, rotation, _render(metric.prompt(shown), family), choices))
    return prompted


def _option_orders(item: Item, metric: Metric, protocol: str) -> list[tuple[int, Item]]:
    """Return the question once for each order of its options that the protocol asks, with the rotation's number."""
    if metric.lettered_options and protocol == "circular":
        turned = rotations(item.options, item.answer)  # type: ignore[type-var]
        return [(n, replace(item, options=tuple(o), answer=answer)) for n, (o, answer) in enumerate(turned)]
    if metric.lettered_options and protocol == "shuffled-options":
        return [(0, _shuffle_options(item))]
    return [(0, item)]


def _shuffle_options(item: Item) -> Item:
    rng = np.random.default_rng(int(fingerprint.sha256_of_bytes(item.id.encode())[:16], 16))
    order = rng.permutation(len(item.options)).tolist()
    positions = {old: new for new, old in enumerate(order)}
    if isinstance(item.answer, tuple):
        answer: Any = tuple(sorted(positions[a] for a in item.answer))  # type: ignore[index]
    else:
        answer = positions[item.answer]  # type: ignore[index]
    return replace(item, options=tuple(item.options[old] for old in order), answer=answer)


def _render(prompt: Prompt, family: ModelFamily) -> str:
    """Return a prompt in the words of a model family."""
    if prompt.kind == "caption":
        return prompt.text or family.caption_prompt
    if prompt.kind == "classification":
        return family.classify_prompt.replace("{options}", ", ".join(prompt.options))
    if prompt.kind == "grounding":
        return family.ground_prompt.replace("{expression}", prompt.text)
    template = {
        "question": family.ask_prompt, "short_answer": family.short_prompt, "choice": family.choose_prompt,
        "multiple_choice": family.choose_all_prompt,
    }[prompt.kind]  # fmt: skip
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, prompt.options, strict=False))
    return template.replace("{question}", prompt.text).replace("{options}", lines)


def options_hash(item: Item) -> str:
    """Return a hash of a question's options in the order shown: a letter has a meaning in that order only."""
    return fingerprint.sha256_of_bytes(json.dumps(item.options, ensure_ascii=False).encode())[:8]

"""Tasks with the prompts of a model family."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lhrs.errors import ConfigError
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.runtime import AnswerType

_SPECIAL = re.compile(r"<(?:image|pad|bos|eos|user|answer)>")


@dataclass
class Task:
    """A question and the constraint on its answer."""

    question: str
    """The user's text."""
    prompt: str
    """The prompt of the model."""
    options: Sequence[str] | None = None
    label: str = "object"
    """Name of the objects in boxes."""
    long: bool = False
    """Whether the answer is a sentence or a list. Confidence is then the mean over tokens, not the product."""
    answer_type: AnswerType = "text"
    """See `Request.answer_type`."""
    history: tuple[tuple[str, str], ...] = ()
    query: str | None = None
    """See `Request.query`."""
    plain_options: tuple[str, ...] | None = None
    """Options as the model spells them."""

    def __post_init__(self) -> None:
        self.prompt = _SPECIAL.sub(" ", self.prompt)
        if self.options is not None:
            self.plain_options = tuple(_plain(self.options))
            _check_options(self.options, self.plain_options)


def ask_task(
    family: ModelFamily,
    question: str,
    options: Sequence[str] | None = None,
    history: Sequence[tuple[str, str]] = (),
) -> Task:
    """Return a free question; with options the answer is exactly one of them.

    Raises:
        ConfigError: the question is empty, or options are the same to the model.
    """
    if not question.strip():
        raise ConfigError("the question is empty.")
    if options is None or set(_plain(options)) <= {"yes", "no"}:
        prompt = family.ask_prompt.replace("{question}", question)
    else:
        listed = ", ".join(_plain(options))
        prompt = family.ask_options_prompt.replace("{options}", listed).replace("{question}", question.rstrip())
    return Task(question, prompt, options, history=tuple(history))


def caption_task(family: ModelFamily) -> Task:
    """Return the question for a description."""
    return Task(family.caption_prompt, family.caption_prompt, long=True, query="caption:")


def classify_task(family: ModelFamily, labels: Sequence[str] | None = None) -> Task:
    """Return the question for the scene class, one of `labels` if there are any.

    Raises:
        ConfigError: labels are the same to the model.
    """
    if labels is None:
        return Task(family.scene_prompt, family.scene_prompt, query="class:")
    prompt = family.classify_prompt.replace("{options}", ", ".join(_plain(labels)))
    return Task(family.scene_prompt, prompt, labels, query="class:")


def ground_task(family: ModelFamily, expression: str) -> Task:
    """Return the question for the boxes of what an expression names."""
    question = family.ground_prompt.replace("{expression}", expression.strip() or "the buildings")
    return Task(
        question,
        question,
        label=_noun(expression),
        long=True,
        answer_type="boxes",
        query=_query("locate", _noun(expression)),
    )


def count_task(family: ModelFamily, target: str = "buildings") -> Task:
    """Return the question for the number of objects."""
    question = family.count_prompt.replace("{target}", target)
    return Task(question, question, answer_type="number", query=_query("count", target))


def _plain(labels: Sequence[str]) -> list[str]:
    """Spell labels as words: `AnnualCrop`, `annual_crop` and `annual crop` are the same to the model."""
    split = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", label) for label in labels]
    return [re.sub(r"[\s_]+", " ", _SPECIAL.sub(" ", s)).strip().lower() for s in split]


def _check_options(options: Sequence[str], plain: Sequence[str]) -> None:
    if len(options) < 2:
        raise ConfigError("give at least two options, separated by commas.")
    for n, text in enumerate(plain):
        if not text:
            raise ConfigError(f"option {n + 1} is empty.")
        if text in plain[:n]:
            raise ConfigError(f"options {options[plain.index(text)]!r} and {options[n]!r} are the same to the model.")


def _query(intent: str, argument: str) -> str:
    """Return a query with one argument; its separators are no part of an argument."""
    return f"{intent}: {' '.join(re.sub(r'[;|@:]+', ' ', argument).split())}"


def _noun(expression: str) -> str:
    return re.sub(r"^\s*(?:(?:the|all|every|each|a|an)\s+)+", "", expression.strip(), flags=re.IGNORECASE) or "object"

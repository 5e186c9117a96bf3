"""`lhrs instruct build`: samples to learn from, made of what is known about images.

Every draw follows from (seed, id of the image); the letters of right choices come in equal numbers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from lhrs.errors import ConfigError
from lhrs.instruct import spatial, telling
from lhrs.instruct.known import Known, Vocabulary
from lhrs.instruct.spatial import Exchange, Maker
from lhrs.schema import Sample, Turn

TASKS: dict[str, Maker] = {**telling.MAKERS, **spatial.MAKERS}
"""By the names that `--tasks` takes."""
LETTERS = "ABCD"
_SHORT = ("location", "relative position", "count", "size", "presence", "region", "scene", "scene check", "reasoning")
"""Tasks that a conversation may consist of."""
_HOW = ("Answer with the letter.", "Choose one letter.", "Which letter is right?")


def make_samples(
    images: Iterable[Known],
    words: Vocabulary,
    tasks: Sequence[str] = (),
    per_image: int = 4,
    choices: float = 0.25,
    conversations: float = 0.3,
    seed: int = 0,
) -> Iterator[Sample]:
    """Yield samples.

    Args:
        images: what is known of each.
        words: of all of them.
        tasks: names in `TASKS`; none means all.
        per_image: exchanges at most that are made; those that came with the data are all there.
        choices: share of questions that become multiple choice, where wrong answers are at hand.
        conversations: share of images whose short exchanges become one conversation.
        seed: of all draws.

    Raises:
        ConfigError: there is no such task.
    """
    for name in tasks:
        if name not in TASKS:
            raise ConfigError(f"there is no task {name!r}; known: {', '.join(TASKS)}.")
    letters = _Letters(seed)
    for known in images:
        rng = Random(f"{seed}:{known.source}:{known.id}")
        made: list[Exchange] = []
        names = list(tasks or TASKS)
        rng.shuffle(names)
        for name in names:
            found = TASKS[name](known, rng, words)
            if found is not None and len(made) < per_image:
                made.append(found)
        given = [
            Exchange(task or "given", question.text, answer.text, tuple(answer.boxes), tuple(question.boxes))
            for question, answer, task in known.turns
        ]
        made += given
        talk = [e for e in made if e.task in _SHORT] if rng.random() < conversations else []
        if len(talk) >= 2:
            made = [e for e in made if e not in talk]
            yield _sample(known, f"{known.id}#talk", [t for e in talk for t in e.turns()], "conversation")
        for n, exchange in enumerate(made):
            turns = exchange.turns()
            task = exchange.task
            if exchange.wrong and rng.random() < choices:
                turns, task = _as_choice(exchange, rng, letters), f"{task} (choice)"
            yield _sample(known, f"{known.id}#{n}", turns, task)


class _Letters:
    """Gives each letter equally often, in an order that cannot be guessed."""

    def __init__(self, seed: int) -> None:
        self._rng, self._left = Random(f"{seed}:letters"), dict[int, list[int]]()

    def draw(self, num: int) -> int:
        left = self._left.setdefault(num, [])
        if not left:
            left.extend(self._rng.sample(range(num), num))
        return left.pop()


def _as_choice(exchange: Exchange, rng: Random, letters: _Letters) -> list[Turn]:
    wrong = list(exchange.wrong)
    rng.shuffle(wrong)
    options = wrong[: len(LETTERS) - 1]
    at = letters.draw(len(options) + 1)
    options.insert(at, exchange.answer)
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))
    question = f"{exchange.question}\n{lines}\n{rng.choice(_HOW)}"
    return [
        Turn(role="user", text=question, boxes=list(exchange.asked)),
        Turn(role="assistant", text=LETTERS[at]),
    ]


def _sample(known: Known, identity: str, turns: list[Turn], task: str) -> Sample:
    return Sample(
        id=identity, images=list(known.images), turns=turns, source=known.source, licence=known.licence,
        attribution=known.attribution, split=known.split, task=task,
    )  # fmt: skip


def summary(samples: Sequence[Sample]) -> list[str]:
    """Return lines about what was made."""
    tasks = Counter(sample.task for sample in samples)
    letters = Counter(s.turns[-1].text for s in samples if s.task and s.task.endswith("(choice)"))
    lines = [f"{count:>9,}  {task}" for task, count in sorted(tasks.items(), key=lambda item: (-item[1], str(item[0])))]
    if letters:
        lines.append("right letters: " + ", ".join(f"{k} {v:,}" for k, v in sorted(letters.items())))
    return lines

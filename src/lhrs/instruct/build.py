"""`lhrs instruct build`: generate training samples from the annotations of images.

Every random choice depends on (seed, id of the image). The letters of correct choices are balanced.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict

from lhrs.atomic_io import write_atomic
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError
from lhrs.instruct import description_tasks, spatial_tasks
from lhrs.instruct.annotations import ImageAnnotations, Vocabulary
from lhrs.instruct.qa import QAPair, TaskFn
from lhrs.progress import Progress, no_progress
from lhrs.schema import Sample, Turn

TASKS: dict[str, TaskFn] = {**description_tasks.TASKS, **spatial_tasks.TASKS}
"""Tasks by the names of `--task`."""
LETTERS = "ABCD"
SUFFIXES = (".jsonl", ".parquet")
_SHORT = ("location", "relative position", "count", "size", "presence", "region", "scene", "scene check", "reasoning",
          "caption")  # fmt: skip
"""Tasks that a conversation may consist of."""
_INSTRUCTIONS = ("Answer with the letter.", "Choose one letter.", "Which letter is right?")


class InstructionConfig(BaseModel):
    """Which questions are asked, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...] = ()
    """Names in `TASKS`; none means all."""
    max_per_image: int = 4
    """New questions per image at most; those of the data itself are all kept."""
    multiple_choice_fraction: float = 0.25
    """Of questions that become multiple choice, where there are distractors."""
    conversation_fraction: float = 0.3
    """Of images whose short questions become one conversation."""
    seed: int = 0
    """Of all random choices."""


_DEFAULTS = InstructionConfig()


@dataclass(frozen=True)
class InstructionData:
    """Report of `build_instructions`."""

    samples: list[Sample]
    num_images: int
    dropped: Dropped


def build_instructions(
    paths: Sequence[Path],
    out: Path,
    *,
    config: InstructionConfig = _DEFAULTS,
    open_world: bool = False,
    split: str | None = None,
    progress: Progress = no_progress,
) -> InstructionData:
    """Write questions and answers about the images of datasets, and `NAME.manifest.json` next to them.

    Args:
        paths: Alignment datasets, or data of any format with boxes, masks, classes or questions.
        out: A new `.jsonl` or `.parquet` file.
        config: The settings.
        open_world: Boxes may be missing, so nothing is asked about what is absent.
        split: Only this split of each dataset.
        progress: Reports the samples read.

    Raises:
        ConfigError: `out` exists or has another suffix, there is no such task, or no question can be asked.
        DataError: Data are missing or broken.
    """
    from lhrs.data.writers import write_samples
    from lhrs.instruct.collect import collect_annotations, vocabulary_of

    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out} is neither {' nor '.join(SUFFIXES)}.")
    manifest = out.with_suffix(".manifest.json")
    for path in (out, manifest):
        if path.exists():
            raise ConfigError(f"{path} exists already; name another file, or remove it.")
    dropped, images = Dropped(), []
    for path in paths:
        images += collect_annotations(path, split=split, open_world=open_world, dropped=dropped, progress=progress)
    samples = list(make_samples(images, vocabulary_of(images), config))
    if not samples:
        what = f" ({dropped.summary()})" if len(dropped) else ""
        raise ConfigError(f"no question of these tasks can be asked about {', '.join(map(str, paths))}{what}.")
    write_samples(samples, out)
    counts = Counter(str(sample.task) for sample in samples)
    content = {
        "kind": "lhrs-instruct", "inputs": [str(path) for path in paths], "split": split, "open_world": open_world,
        **config.model_dump(mode="json"), "num_images": len(images), "num_samples": len(samples),
        "samples_by_task": dict(sorted(counts.items())), "dropped": dropped.to_dict(),
    }  # fmt: skip
    write_atomic(manifest, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return InstructionData(samples, len(images), dropped)


def make_samples(
    images: Iterable[ImageAnnotations], vocabulary: Vocabulary, config: InstructionConfig = _DEFAULTS
) -> Iterator[Sample]:
    """Yield samples; see `build_instructions`.

    Args:
        images: Annotations of each.
        vocabulary: Of all of them.
        config: The settings.

    Raises:
        ConfigError: There is no such task.
    """
    for name in config.tasks:
        if name not in TASKS:
            raise ConfigError(f"there is no task {name!r}; known: {', '.join(TASKS)}.")
    letters = _Letters(config.seed)
    for image in images:
        rng = Random(f"{config.seed}:{image.source}:{image.id}")
        pairs: list[QAPair] = []
        names = list(config.tasks or TASKS)
        rng.shuffle(names)
        for name in names:
            pair = TASKS[name](image, rng, vocabulary)
            if pair is not None and len(pairs) < config.max_per_image:
                pairs.append(pair)
        pairs += [
            QAPair(task or "original", question.text, answer.text, tuple(answer.boxes), tuple(question.boxes))
            for question, answer, task in image.turns
        ]
        short = [pair for pair in pairs if pair.task in _SHORT] if rng.random() < config.conversation_fraction else []
        if len(short) >= 2:
            pairs = [pair for pair in pairs if pair not in short]
            turns = [turn for pair in short for turn in pair.turns()]
            yield _sample(image, f"{image.id}#talk", turns, "conversation")
        for n, pair in enumerate(pairs):
            turns, task = pair.turns(), pair.task
            if pair.distractors and rng.random() < config.multiple_choice_fraction:
                turns, task = _to_multiple_choice(pair, rng, letters), f"{task} (choice)"
            yield _sample(image, f"{image.id}#{n}", turns, task)


class _Letters:
    """Samples each letter equally often, in an unpredictable order."""

    def __init__(self, seed: int) -> None:
        self._rng, self._left = Random(f"{seed}:letters"), dict[int, list[int]]()

    def sample(self, num: int) -> int:
        left = self._left.setdefault(num, [])
        if not left:
            left.extend(self._rng.sample(range(num), num))
        return left.pop()


def _to_multiple_choice(pair: QAPair, rng: Random, letters: _Letters) -> list[Turn]:
    options = list(pair.distractors)
    rng.shuffle(options)
    options = options[: len(LETTERS) - 1]
    at = letters.sample(len(options) + 1)
    options.insert(at, pair.answer)
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))
    question = f"{pair.question}\n{lines}\n{rng.choice(_INSTRUCTIONS)}"
    return [
        Turn(role="user", text=question, boxes=list(pair.question_boxes)),
        Turn(role="assistant", text=LETTERS[at]),
    ]


def _sample(image: ImageAnnotations, identity: str, turns: list[Turn], task: str) -> Sample:
    return Sample(
        id=identity, images=list(image.images), turns=turns, source=image.source, license=image.license,
        attribution=image.attribution, split=image.split, task=task,
    )  # fmt: skip


def summary(samples: Sequence[Sample]) -> list[str]:
    """Return a line for each task with the number of its samples, and one about the letters of right choices."""
    tasks = Counter(sample.task for sample in samples)
    letters = Counter(s.turns[-1].text for s in samples if s.task and s.task.endswith("(choice)"))
    lines = [f"{count:>9,}  {task}" for task, count in sorted(tasks.items(), key=lambda item: (-item[1], str(item[0])))]
    if letters:
        lines.append("right letters: " + ", ".join(f"{k} {v:,}" for k, v in sorted(letters.items())))
    return lines

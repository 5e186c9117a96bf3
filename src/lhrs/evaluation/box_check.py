"""How a model writes boxes, by asking it for drawn squares: `lhrs check-boxes`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lhrs.errors import ServerError
from lhrs.evaluation.box_drawings import Drawing, draw
from lhrs.evaluation.box_hypotheses import Reading, Verdict, describe, judge, readings
from lhrs.inference.assistant import Assistant
from lhrs.inference.box_notation import find_numbers
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.family_file import Boxes, FamilyFile
from lhrs.inference.model_family import ModelFamily, get_family
from lhrs.inference.runtime import Generation, Request, Runtime
from lhrs.inference.tasks import ground_task
from lhrs.progress import Progress, no_progress
from lhrs.registry import list_components

FAMILIES = "lhrs.inference.families"
_PLAIN_PROMPTS = {
    "0 to 1000": ModelFamily.ground_prompt,
    "0 to 1": (
        "Locate {expression} in the image. Answer only with the bounding boxes, each as [x1, y1, x2, y2] with "
        "fractions of the width and the height, from 0 (left, top) to 1 (right, bottom)."
    ),
    "pixels": (
        "Locate {expression} in the image. Answer only with the bounding boxes, each as [x1, y1, x2, y2] in pixels of "
        "the image."
    ),
}
_GOOD_IOU = 0.5
_MARGIN = 0.05
"""Difference in mean IoU below which a family is preferred to a family file."""


@dataclass(frozen=True)
class Finding:
    """What one prompt shows."""

    prompt_name: str
    """Name of the family whose prompt it is, or of the notation that it asks for."""
    prompt: str
    verdict: Verdict | None
    """None if the server refuses the prompt."""
    num_answers: int
    """Answers with a box."""
    is_certain: bool

    @property
    def mean_iou(self) -> float:
        """Mean IoU with the drawn squares, 0-1."""
        return 0.0 if self.verdict is None else float(self.verdict.iou.mean())

    @property
    def accuracy(self) -> float:
        """Fraction of squares with an IoU of at least 0.5."""
        return 0.0 if self.verdict is None else float((self.verdict.iou >= _GOOD_IOU).mean())

    @property
    def is_of_family(self) -> bool:
        """Whether a family reads the answers best."""
        return self.verdict is not None and self.verdict.reading.notation is None

    @property
    def reading(self) -> str:
        """The best reading in words, with its rivals."""
        if self.verdict is None:
            return "refused"
        if not self.num_answers:
            return "no box"
        names = (self.verdict.reading.name, *self.verdict.rivals[:2])
        return " or ".join(names) if self.is_certain or self.verdict.rivals else f"{names[0]}, or chance"


@dataclass(frozen=True)
class BoxCheck:
    """The result of a check."""

    model: str
    family: str
    """Family by which lhrs reads the model's boxes now."""
    family_iou: float
    """Mean IoU of the boxes that `lhrs ground` returns with that family."""
    findings: tuple[Finding, ...]
    num_drawings: int

    @property
    def best(self) -> Finding | None:
        """The prompt with the most accurate boxes among those whose reading is certain.

        A prompt whose answers a family reads is preferred to one that is not much better.
        """
        certain = [finding for finding in self.findings if finding.is_certain]
        return max(certain, key=lambda finding: finding.mean_iou + _MARGIN * finding.is_of_family, default=None)

    @property
    def outcome(self) -> Literal["right", "other family", "family file", "cannot tell"]:
        """Whether the family reads the boxes right, another does, a family file is needed, or nothing is certain."""
        best = self.best
        if self.family_iou >= max(_GOOD_IOU, 0 if best is None else best.mean_iou - _MARGIN):
            return "right"
        if best is None or best.verdict is None:
            return "cannot tell"
        return "other family" if best.is_of_family else "family file"

    @property
    def message(self) -> str:
        """The result in one sentence."""
        best = self.best
        now = f"family {self.family} (mean IoU {self.family_iou:.2f})"
        if self.outcome == "right":
            return f"{self.model}: {now} reads the boxes right."
        if best is None or best.verdict is None:
            answered = max((finding.num_answers for finding in self.findings), default=0)
            reason = (
                f"at most {answered} of {self.num_drawings} answers to a prompt have a box"
                if 2 * answered < self.num_drawings
                else "the boxes fit no notation better than chance, or several equally"
            )
            return f"{self.model}: cannot tell how it writes boxes: {reason}. Do not rely on them."
        name = best.verdict.reading.name
        if self.outcome == "other family":
            return f"{self.model}: use --family {name} (mean IoU {best.mean_iou:.2f}), not {now}."
        return f"{self.model}: boxes are {name} (mean IoU {best.mean_iou:.2f}); {now} reads them wrong."

    def family_file(self) -> FamilyFile | None:
        """Return the family file for the model; None if it needs none, or nothing is certain."""
        best = self.best
        if self.outcome != "family file" or best is None or best.verdict is None:
            return None
        notation = best.verdict.reading.notation
        assert notation is not None
        boxes = Boxes(order=notation.order, scale=notation.scale, multiple=notation.multiple)
        measured: dict[str, str | float] = {
            "model": self.model, "boxes": describe(notation), "mean_iou": round(best.mean_iou, 3),
            "accuracy": round(best.accuracy, 3), "num_drawings": self.num_drawings,
        }  # fmt: skip
        base = self.family if self.family in list_components(FAMILIES) else None
        return FamilyFile(base=base, ground_prompt=best.prompt, boxes=boxes, measured=measured)


def check_boxes(
    assistant: Assistant,
    num_drawings: int = 8,
    seed: int = 0,
    max_new_tokens: int = 256,
    progress: Progress = no_progress,
) -> BoxCheck:
    """Ask a model for drawn squares in the words of every family, and find out how it writes their boxes.

    Args:
        assistant: the model.
        num_drawings: number of drawings, one question each.
        seed: of the drawings.
        max_new_tokens: limit of an answer.
        progress: counts the questions.

    Raises:
        ServerError: the server answers no prompt.
    """
    runtime, drawings = assistant.runtime, draw(num_drawings, seed)
    truth = np.stack([drawing.unit_box for drawing in drawings])
    family = runtime.family
    asked = _prompts(family)
    own, findings, failure = 0.0, [], None
    with progress("squares", (1 + len(asked)) * num_drawings) as bar:
        try:
            own = _own_iou(assistant, drawings, truth)
        except ServerError as error:  # a server may refuse this prompt only
            failure = error
        bar.update(num_drawings)
        for name, prompt in asked.items():
            try:
                replies = _ask(runtime, drawings, prompt, max_new_tokens)
            except ServerError as error:
                failure = error
                findings.append(Finding(name, prompt, None, 0, False))
            else:
                findings.append(_find(name, prompt, replies, drawings, truth, len(asked), seed))
            bar.update(num_drawings)
    if failure is not None and all(finding.verdict is None for finding in findings):
        raise failure
    return BoxCheck(runtime.name, family_name(family), own, tuple(findings), num_drawings)


def family_name(family: ModelFamily) -> str:
    """Return the name of a family: that of its file, `default`, or `file` for a family file."""
    package, _, name = type(family).__module__.rpartition(".")
    if package == FAMILIES:
        return name
    return "default" if type(family) is ModelFamily else "file"


def _prompts(family: ModelFamily) -> dict[str, str]:
    """Return different prompts by their names, that of the model's family first."""
    prompts = {family_name(family): family.ground_prompt} if type(family) is not ModelFamily else {}
    prompts |= _PLAIN_PROMPTS
    for name in list_components(FAMILIES):
        known = get_family(name)
        if known.in_model_names and known.ground_prompt not in prompts.values():
            prompts[name] = known.ground_prompt
    return prompts


def _own_iou(assistant: Assistant, drawings: Sequence[Drawing], truth: np.ndarray) -> float:
    """Return the mean IoU of the boxes that `lhrs ground` returns."""
    family = assistant.runtime.family
    requests = [
        assistant.request([drawing.pixels], ground_task(family, _expression(drawing)), n)
        for n, drawing in enumerate(drawings)
    ]
    replies = assistant.runtime.generate(requests)
    found = np.stack([reply.boxes[0] if len(reply.boxes) else np.zeros(4) for reply in replies])
    return float(judge([Reading("own", found)], truth).iou.mean())


class _FreeFamily(ModelFamily):
    """A family whose answers are not constrained, with the system message of another."""

    def __init__(self, system_prompt: str | None) -> None:
        self.system_prompt = system_prompt

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`."""
        return None


@contextmanager
def _without_constraint(runtime: Runtime) -> Iterator[None]:
    family = runtime.family
    runtime.family = _FreeFamily(family.system_prompt)
    try:
        yield
    finally:
        runtime.family = family


def _ask(runtime: Runtime, drawings: Sequence[Drawing], prompt: str, max_new_tokens: int) -> list[Generation]:
    requests = [
        Request(
            (drawing.pixels,), prompt.replace("{expression}", _expression(drawing)), answer_type="boxes",
            max_new_tokens=max_new_tokens,
        )
        for drawing in drawings
    ]  # fmt: skip
    with _without_constraint(runtime):
        return runtime.generate(requests)


def _find(
    name: str,
    prompt: str,
    replies: Sequence[Generation],
    drawings: Sequence[Drawing],
    truth: np.ndarray,
    num_prompts: int,
    seed: int,
) -> Finding:
    sizes, resized = [drawing.size_wh for drawing in drawings], [reply.resized_wh for reply in replies]
    numbers = [next(find_numbers(reply.text), []) for reply in replies]
    candidates = readings(numbers, sizes, resized)
    if name in list_components(FAMILIES):
        candidates.insert(0, _read_by(name, replies, drawings))
    verdict = judge(candidates, truth, seed)
    answered = int((~np.isnan(verdict.reading.boxes).any(1)).sum())
    return Finding(name, prompt, verdict, answered, verdict.is_certain(num_prompts))


def _read_by(name: str, replies: Sequence[Generation], drawings: Sequence[Drawing]) -> Reading:
    """Return the answers as a family reads them."""
    family, boxes = get_family(name), np.full((len(replies), 4), np.nan)
    for n, (reply, drawing) in enumerate(zip(replies, drawings, strict=True)):
        found = family.read_boxes(reply.text, family.pixel_size(drawing.size_wh, reply.resized_wh)).boxes
        if len(found):
            boxes[n] = found[0]
    return Reading(name, boxes)


def _expression(drawing: Drawing) -> str:
    return f"the {drawing.color} square"

"""A question with its answer. A task is a function from annotations of an image to such a pair."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from lhrs.instruct.annotations import ImageAnnotations, Vocabulary
from lhrs.schema import Box, Turn


@dataclass(frozen=True)
class QAPair:
    """A question and its answer."""

    task: str
    question: str
    answer: str
    boxes: tuple[Box, ...] = ()
    """Boxes of the answer."""
    question_boxes: tuple[Box, ...] = ()
    """Boxes of the question."""
    distractors: tuple[str, ...] = ()
    """Wrong answers for multiple choice."""

    def turns(self) -> list[Turn]:
        """Return the pair as a conversation."""
        return [
            Turn(role="user", text=self.question, boxes=list(self.question_boxes)),
            Turn(role="assistant", text=self.answer, boxes=list(self.boxes)),
        ]


TaskFn = Callable[[ImageAnnotations, Random, Vocabulary], QAPair | None]

"""How families of models differ: how they are asked, and how they write boxes."""

from collections.abc import Sequence
from typing import ClassVar

from lhrs.boxes import ParsedBoxes, Size, format_boxes, parse_boxes
from lhrs.inference.decoding import BoxConstraint, Constraint, Vocabulary
from lhrs.registry import get_component, load_components

_FOLDER = "lhrs.inference.families"


class ModelFamily:
    """One family of models. A new one is a file in `families/` with a subclass; its name is the file's.

    Braces in the prompts are filled in: `{options}`, `{expression}`, `{thing}`, `{question}`.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    """Types of transformers configurations that belong to the family."""
    box_style = "norm1000"
    """Text form of boxes, see `lhrs.boxes.STYLES`."""
    refusal: str | None = None
    """The model's answer when it cannot tell, if it was trained with one."""
    system_prompt: str | None = None
    reads_conversations = True
    """Earlier turns and system messages change its answers; False for models that know single questions only."""
    ask_prompt = "{question}"
    ask_options_prompt = "{question} Options: {options}. Answer with one of the options only."
    caption_prompt = "Describe this overhead image in one sentence."
    scene_prompt = "What is the land use in this overhead image? Answer with a few words only."
    classify_prompt = (
        "Which of these classes describes this overhead image best: {options}? Answer with the class only."
    )
    ground_prompt = (
        "Locate {expression} in the image. Answer only with the bounding boxes, each as [x1, y1, x2, y2] with whole "
        "numbers from 0 (left, top) to 1000 (right, bottom)."
    )
    short_prompt = "{question} Answer with one word or one number only."
    """For benchmarks whose answers are a word or a number."""
    choose_prompt = "{question}\n{options}\nAnswer with the letter of the right option only."
    """For benchmarks of single choices; options come one a line with their letters."""
    choose_all_prompt = (
        "{question}\n{options}\nOne or several options are right. Answer with the letters of all of them only."
    )
    """The same for questions of which several options may be right."""
    count_prompt = "How many {thing} are there in this image? Answer with a number only."

    def read_boxes(self, text: str, seen_wh: Size) -> ParsedBoxes:
        """Return the boxes of an answer as shares of the image (0-1).

        Args:
            text: what the model wrote.
            seen_wh: size in pixels of the image as the model saw it, for families that count those pixels.
        """
        return parse_boxes(text, (1, 1), self.box_style)

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """Return boxes given as shares of the image in the family's own text; the inverse of `read_boxes`."""
        import numpy as np

        return format_boxes(np.array(boxes, float).reshape(-1, 4), (1, 1), self.box_style)

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """Return what keeps answers well-formed boxes; None where the family's form has none."""
        return BoxConstraint(self.box_style, self.refusal, vocabulary)


def get_family(name: str) -> ModelFamily:
    """Return an adapter by the name of its file.

    Raises:
        ConfigError: there is none of that name.
    """
    return get_component(_FOLDER, name, ModelFamily)()


def family_for(model_type: str) -> ModelFamily:
    """Return the adapter of a transformers model type, or the plain one for types that no file claims."""
    for family in load_components(_FOLDER, ModelFamily).values():
        if model_type in family.model_types:
            return family()
    return ModelFamily()

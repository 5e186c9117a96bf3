"""Models with dense heads, whose answers come from the evidence of the heads."""

import re
from collections.abc import Sequence

from lhrs.inference.model_family import ModelFamily

_LETTERED = r"^\s*\(?([A-H])[.):]\s+(.+?)\s*$"
_APPENDED = r"\s*Options: [^\n]*\.\s*$"
_LISTED = r"^Which of these is it: (.+)\?$"


class Perception(ModelFamily):
    """Any wording: the language model only decides what is asked."""

    in_model_names = False
    ask_options_prompt = "{question} Options: {options}."
    caption_prompt = "Describe the image."
    scene_prompt = "What kind of area is this?"
    classify_prompt = "Which of these is it: {options}?"
    ground_prompt = "Where is {expression}?"
    count_prompt = "How many {target} are there?"
    short_prompt = "{question}"
    choose_prompt = "{question}\n{options}"
    choose_all_prompt = "{question}\n{options}"

    @staticmethod
    def split_options(question: str) -> tuple[str, dict[str, str]]:
        """Return a question without the options that its text lists, and the options by the answer that names them.

        Options are lines such as `A. a river`, which are answered by their letter, or the list of `classify_prompt`.
        """
        if listed := re.match(_LISTED, question.strip(), re.DOTALL):
            return "What kind of area is this?", {label: label for label in listed[1].split(", ")}
        lines = re.sub(_APPENDED, "", question).splitlines()
        found = {match[1]: match[2] for line in lines if (match := re.match(_LETTERED, line))}
        if len(found) < 2:
            return "\n".join(lines), {}
        return "\n".join(line for line in lines if not re.match(_LETTERED, line)), found

    def label_warnings(self, labels: Sequence[str]) -> tuple[str, ...]:
        """See `ModelFamily.label_warnings`."""
        from lhrs.perception.score_labels import LabelScorer

        return LabelScorer(labels).warnings

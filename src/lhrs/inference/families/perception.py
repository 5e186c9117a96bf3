"""Models with dense heads, whose answers come from the evidence of the heads."""

import re
from collections.abc import Sequence

from lhrs.inference.model_family import ModelFamily

_SATELLITE_GSD_M = 5.0
"""Ground sampling distance from which on images are taken to be of satellites such as Sentinel-2."""
_SATELLITE_CHIP_PX = 64
_LETTERED = r"^\s*\(?([A-H])[.):]\s+(.+?)\s*$"
_APPENDED = r"\s*Options: [^\n]*\.\s*$"
_LISTED = r"^Which of these is it: (.+)\?$"


class Perception(ModelFamily):
    """Any wording: the language model only decides what is asked."""

    served_as = ("lhrs-nano",)
    in_model_names = False
    reads_system_messages = False
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

    def window_px(self, task: str, gsd_m: float) -> int:
        """See `ModelFamily.window_px`. Classes of satellite images were learned on chips of 64 pixels."""
        return _SATELLITE_CHIP_PX if task in ("classify", "change") and gsd_m >= _SATELLITE_GSD_M else 256

    def label_warnings(self, labels: Sequence[str]) -> tuple[str, ...]:
        """See `ModelFamily.label_warnings`."""
        from lhrs.perception.score_labels import LabelScorer

        return LabelScorer(labels).warnings

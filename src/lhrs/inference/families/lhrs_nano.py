"""lhrs-nano, the embedded model."""

from lhrs.inference.decoding import Constraint, LocationTokenConstraint, Vocabulary
from lhrs.inference.model_family import ModelFamily


class LhrsNano(ModelFamily):
    """Plain lower-case questions; boxes are location tokens."""

    box_style = "loc64"
    reads_conversations = False
    refusal = "i can't tell from this image."
    ask_options_prompt = "{question} options: {options}."
    caption_prompt = "describe the image in one sentence."
    scene_prompt = "what is the land use in this image?"
    classify_prompt = "which of these best describes the image: {options}?"
    ground_prompt = "locate {expression}."
    count_prompt = "how many {target} are there?"
    short_prompt = "{question}"
    choose_prompt = "{question}\n{options}"

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint:
        """See `ModelFamily.box_constraint`."""
        places = [vocabulary.encode(f"<loc_{n}>")[0] for n in range(64)]
        return LocationTokenConstraint(places, self.refusal, vocabulary)

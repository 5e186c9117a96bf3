"""lhrs-nano, the embedded model."""

from lhrs.inference.adapter import Adapter
from lhrs.inference.decoding import Constraint, Locations, Vocabulary


class LhrsNano(Adapter):
    """Plain lower-case questions; boxes are location tokens."""

    box_style = "loc64"
    reads_conversations = False
    refusal = "i can't tell from this image."
    ask_options = "{question} options: {options}."
    caption = "describe the image in one sentence."
    scene = "what is the land use in this image?"
    classify = "which of these best describes the image: {options}?"
    ground = "locate {expression}."
    count = "how many {thing} are there?"
    short = "{question}"
    choose = "{question}\n{options}"

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint:
        """See `Adapter.box_constraint`."""
        places = [vocabulary.encode(f"<loc_{n}>")[0] for n in range(64)]
        return Locations(places, self.refusal, vocabulary)

"""Language stages of the embedded model: packed question rows, answers weighed one by one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.instruct.banks import Banks
from lhrs.instruct.questions import LETTERS
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.training.vision import normalise


class QuestionLoss(nn.Module):
    """The model plus its loss on packed rows (`lhrs.data.questions`); frozen parts stay in evaluation mode."""

    def __init__(self, model: LHRSForConditionalGeneration, train_vision: bool) -> None:
        super().__init__()
        self.model, self.train_vision = model, train_vision
        model.model.vision_tower.requires_grad_(train_vision)

    def train(self, mode: bool = True) -> "QuestionLoss":
        super().train(mode)
        if not self.train_vision:
            self.model.model.vision_tower.eval()
        return self

    def forward(self, pixels: Tensor, input_ids: Tensor, labels: Tensor, weights: Tensor, position_ids: Tensor, attention_mask: Tensor) -> dict:
        """Return `{"loss"}`: cross-entropy per answer, each answer weighing once; logits only where an answer is."""
        hidden = self.model.model(
            input_ids=input_ids, pixel_values=normalise(pixels), attention_mask=attention_mask,
            position_ids=position_ids, use_cache=False,
        ).last_hidden_state  # fmt: skip
        at = weights > 0
        ce = F.cross_entropy(self.model.lm_head(hidden[at]).float(), labels[at], reduction="none")
        return {"loss": (ce * weights[at]).sum() / weights[at].sum(), "per_token": ce.detach(), "labels": labels[at]}


def tokenizer_texts(banks: Banks) -> list[str]:
    """Return the words the tokenizer should know, common ones repeated."""
    texts: list[str] = []
    for lists in banks.questions.values():
        texts += lists["train"]
    for block in banks.classes.values():
        for entry in block.values():
            texts += [*[entry[k] for k in ("name", "a_thing", "thing", "things")], *entry.get("scene_synonyms", []), *entry.get("captions", [])] * 8  # fmt: skip
    for nouns in (banks.absent, banks.building_words):
        texts += [t for n in nouns for t in (n.a_thing, n.thing, n.things)] * 4
    for entry in banks.attributes.values():
        texts += [entry[k] for k in ("a_thing", "thing", "things")] * 4
    texts += [s for names in banks.regions.values() for s in names] * 8
    texts += banks.unanswerable["train"]
    texts += [str(i) for i in range(100)] * 40 + [f" {i}" for i in range(100)] * 40
    texts += [w for letter in LETTERS for w in (f"{letter}.", f"({letter})", letter, f"\n{letter}.")] * 20
    texts += ["yes", "no", "i can't tell from this image.", "an aerial image with 3 buildings.", "an aerial image of mostly land with some road and building."] * 50  # fmt: skip
    return [t.replace("{", " ").replace("}", " ") for t in texts]

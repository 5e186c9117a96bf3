"""Language stages of the embedded model: packed question rows, answers weighed one by one."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.atomic_io import save_safetensors
from lhrs.inference.ood import OODDetector
from lhrs.models.export_onnx import export_onnx
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor
from lhrs.nano.model import IMAGE_SIZE
from lhrs.nano.sources import Source, draw_canvas
from lhrs.nano.tasks import LETTERS
from lhrs.nano.templates import Banks
from lhrs.nano.vision import normalize


class QuestionLoss(nn.Module):
    """The model plus its loss on packed rows (`lhrs.nano.rows`); frozen parts stay in evaluation mode."""

    def __init__(self, model: LHRSForConditionalGeneration, train_vision: bool) -> None:
        super().__init__()
        self.model, self.train_vision = model, train_vision
        model.model.vision_tower.requires_grad_(train_vision)
        self.register_state_dict_post_hook(_drop_tied)

    def train(self, mode: bool = True) -> "QuestionLoss":
        super().train(mode)
        if not self.train_vision:
            self.model.model.vision_tower.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        weights: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        pixels: Tensor | None = None,
    ) -> dict:
        """Return `{"loss"}`: cross-entropy per answer, each answer weighing once; logits only where an answer is."""
        hidden = self.model.model(
            input_ids=input_ids,
            pixel_values=None if pixels is None else normalize(pixels),
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        at = weights > 0
        ce = F.cross_entropy(self.model.lm_head(hidden[at]).float(), labels[at], reduction="none")
        return {"loss": (ce * weights[at]).sum() / weights[at].sum(), "per_token": ce.detach(), "labels": labels[at]}


def _drop_tied(module: nn.Module, state: dict, prefix: str, _: dict) -> None:
    """Leave out the output layer, which is the input embedding; safetensors refuses to store one tensor twice."""
    state.pop(f"{prefix}model.lm_head.weight", None)


def tokenizer_texts(banks: Banks) -> list[str]:
    """Return the words the tokenizer should know, common ones repeated."""
    texts: list[str] = []
    for lists in banks.questions.values():
        texts += lists["train"]
    for block in banks.classes.values():
        for entry in block.values():
            texts += [
                *[entry[k] for k in ("name", "a_thing", "thing", "things")],
                *entry.get("scene_synonyms", []),
                *entry.get("captions", []),
            ] * 8
    for nouns in (banks.absent, banks.building_words):
        texts += [t for n in nouns for t in (n.a_thing, n.thing, n.things)] * 4
    for entry in banks.attributes.values():
        texts += [entry[k] for k in ("a_thing", "thing", "things")] * 4
    texts += [s for names in banks.regions.values() for s in names] * 8
    texts += banks.unanswerable["train"]
    texts += [str(i) for i in range(100)] * 40 + [f" {i}" for i in range(100)] * 40
    texts += [w for letter in LETTERS for w in (f"{letter}.", f"({letter})", letter, f"\n{letter}.")] * 20
    texts += [
        "yes",
        "no",
        "i can't tell from this image.",
        "an aerial image with 3 buildings.",
        "an aerial image of mostly land with some road and building.",
    ] * 50
    return [t.replace("{", " ").replace("}", " ") for t in texts]


@torch.no_grad()
def package(
    model: LHRSForConditionalGeneration, processor: LHRSProcessor, sources: list[Source], folder: Path, seed: int
) -> None:
    """Write the embedded model: fp16 weights shared by both paths, ONNX graphs, and the familiarity detector.

    Matrices are rounded to half precision before anything is exported or measured, so that what is tested is what
    ships; norms and batch statistics stay in single precision.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model.float().eval()
    state = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    stored = {k: v.half() if v.ndim >= 2 else v for k, v in state.items()}
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()}, strict=False)
    save_safetensors(folder / "model.safetensors", stored)
    model.config.architectures, model.config.model_family = [type(model).__name__], "lhrs_nano"
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    processor.save_pretrained(folder)
    fit_ood_detector(model, sources, seed).save(folder / "ood.npz")
    export_onnx(model, folder)


def fit_ood_detector(
    model: LHRSForConditionalGeneration, sources: list[Source], seed: int, per_group: int = 250
) -> OODDetector:
    """Fit the detector on training images as users would give them: whole images, and windows of large ones."""
    features, groups = [], []
    for s, source in enumerate(sources):
        rng = np.random.default_rng([seed, s])
        by_label: dict[int, list[int]] = {}
        for i in range(len(source.images)):
            by_label.setdefault(source.labels[i] if source.labels else 0, []).append(i)
        for label, members in by_label.items():
            picks = [members[int(j)] for j in rng.permutation(len(members))[:per_group]]
            if not source.labels:
                picks = (picks * per_group)[:per_group]
            plain = replace(source, mosaic=0.0, crop=source.crop if source.masks else (0.75, 1.0))
            pixels = torch.stack([draw_canvas(plain, i, IMAGE_SIZE, rng).pixels for i in picks])
            for batch in pixels.split(64):
                deepest = cast(Tensor, model.get_image_features(normalize(batch)).last_hidden_state)
                features.append(deepest.mean(1).numpy())
                groups += [s * 1000 + label] * len(batch)
    x, g = np.concatenate(features), np.array(groups)
    held = np.random.default_rng(seed).random(len(x)) < 0.15
    return OODDetector.fit(x[~held], g[~held], x[held])

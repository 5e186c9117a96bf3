"""Rows for the embedded model: one image, then many questions about it that cannot see each other.

An encoder pass and the image tokens cost more than a short question, so all questions of an image share them: every
segment attends to the image prefix and to itself, and its positions continue the prefix. What the model learns is
exactly what it would learn from one question a row (tested), several times faster.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.nano.image_facts import ImageFacts
from lhrs.nano.phrasing import Draw, dress
from lhrs.nano.sources import Canvas, Source, draw_canvas, jitter
from lhrs.nano.tasks import TASKS
from lhrs.nano.templates import load_banks

IGNORE = -100
_WEIGHT_TOKENS = 8
"""An answer counts once however long it is, up to this many tokens; longer ones (boxes) count by their length."""


@dataclass(frozen=True)
class Phase:
    """Mixture of tasks and sources up to an epoch (exclusive)."""

    until_epoch: int
    tasks: dict[str, float]
    sources: dict[str, float]
    mosaic: float = 0.0
    images: bool = True
    """False leaves images out of the rows, for tasks that need none."""


def canvas_facts(canvas: Canvas, source: Source, size: int) -> ImageFacts:
    """Turn a canvas into facts."""
    vocabulary = source.name if source.name in ("eurosat", "ucmerced", "dubai") else "sites"
    facts = ImageFacts(vocabulary)
    if canvas.label is not None:
        facts.scene = source.classes[canvas.label]
    if canvas.classmap is not None:
        onehot = torch.nn.functional.one_hot(canvas.classmap, source.num_classes)
        facts.cover, facts.classes = onehot.permute(2, 0, 1).float().numpy(), list(source.classes)
    if canvas.cover is not None:
        facts.cover, facts.classes = canvas.cover.numpy(), list(source.classes[: len(canvas.cover)])
    if canvas.boxes is not None:
        facts.buildings = (canvas.boxes / size).numpy()
    return facts


class QuestionRows(Dataset):
    """Draw an image, then questions about it until the row is full.

    Args:
        sources: images in memory; each `mosaic` share is replaced by the phase's.
        tokenizer: a transformers tokenizer with the special tokens of `lhrs.nano.model`.
        num_image_tokens: placeholders per image.
        phases: mixtures in order of `until_epoch`; the last one stays in force.
        size: canvas side in pixels.
        text_tokens: token budget of the questions and answers of one row.
        rows_per_epoch: length of the data set.
    """

    def __init__(
        self,
        sources: list[Source],
        tokenizer: Any,
        num_image_tokens: int,
        phases: list[Phase],
        size: int,
        text_tokens: int,
        rows_per_epoch: int,
        seed: int,
    ) -> None:
        self.sources, self.tokenizer, self.phases, self.size = sources, tokenizer, phases, size
        self.text_tokens, self.rows, self.seed = text_tokens, rows_per_epoch, seed
        ids = tokenizer.convert_tokens_to_ids
        self.prefix = [ids("<bos>"), ids("<user>"), *[ids("<image>")] * num_image_tokens]
        self.answer, self.eos = ids("<answer>"), ids("<eos>")

    def __len__(self) -> int:
        return self.rows

    def phase(self, epoch: int) -> Phase:
        """Return the mixture in force."""
        return next((p for p in self.phases if epoch < p.until_epoch), self.phases[-1])

    def __getitem__(self, key: SampleKey) -> dict[str, Tensor]:
        rng, phase = sample_rng(self.seed, key), self.phase(key[0])
        weights = np.array([phase.sources.get(s.name, 0.0) for s in self.sources])
        source = self.sources[int(rng.choice(len(weights), p=weights / weights.sum()))]
        source = Source(**{**vars(source), "mosaic": phase.mosaic if source.labels else 0.0})
        canvas = draw_canvas(source, int(rng.integers(len(source.images))), self.size, rng)
        segments = self.questions(canvas_facts(canvas, source, self.size), phase, rng)
        if not phase.images:
            return pack(self.prefix[:2], segments)
        return {"pixels": jitter(canvas.pixels, rng, source.jitter), **pack(self.prefix, segments)}

    def questions(self, facts: ImageFacts, phase: Phase, rng: np.random.Generator) -> list[tuple[list[int], list[int]]]:
        """Return (question ids, answer ids) pairs that fit the budget."""
        draw, out, used = Draw(rng, load_banks()), [], 0
        names = list(phase.tasks)
        share = np.array([phase.tasks[n] for n in names])
        for _ in range(64):
            task = names[int(rng.choice(len(names), p=share / share.sum()))]
            found = TASKS[task](facts, draw)
            if found is None:
                continue
            question = self.tokenizer(dress(found[0], draw, task), add_special_tokens=False)["input_ids"] + [
                self.answer
            ]
            answer = self.tokenizer(found[1], add_special_tokens=False)["input_ids"] + [self.eos]
            if used + len(question) + len(answer) > self.text_tokens:
                break
            out.append((question, answer))
            used += len(question) + len(answer)
        return out


def pack(prefix: list[int], segments: list[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Lay segments after a shared prefix.

    Returns `input_ids`, `labels` (already shifted: `labels[t]` is what position t should predict, -100 elsewhere),
    `weights` (float, each answer's sum to its weight), `segment` (0 is the prefix) and `position_ids`, all `(T,)`.
    """
    ids, labels, weights, segment, position = (
        list(prefix),
        [IGNORE] * len(prefix),
        [0.0] * len(prefix),
        [0] * len(prefix),
        list(range(len(prefix))),
    )
    for n, (question, answer) in enumerate(segments, start=1):
        tokens = question + answer[:-1]
        ids += tokens
        labels += [IGNORE] * (len(question) - 1) + answer
        each = max(1.0, len(answer) / _WEIGHT_TOKENS) / len(answer)
        weights += [0.0] * (len(question) - 1) + [each] * len(answer)
        segment += [n] * len(tokens)
        position += range(len(prefix), len(prefix) + len(tokens))
    return {
        "input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "weights": torch.tensor(weights),
        "segment": torch.tensor(segment), "position_ids": torch.tensor(position),
    }  # fmt: skip


def collate_rows(rows: list[dict[str, Tensor]], pad_id: int) -> dict[str, Tensor]:
    """Pad rows and build the block mask `(B, 1, T, T)` (True = may look)."""
    fill = {"input_ids": pad_id, "labels": IGNORE, "weights": 0.0, "segment": -1, "position_ids": 0}
    batch = {
        name: torch.nn.utils.rnn.pad_sequence([r[name] for r in rows], batch_first=True, padding_value=value)
        for name, value in fill.items()
    }
    segment = batch.pop("segment")
    same = segment[:, :, None] == segment[:, None, :]
    causal = torch.ones(segment.shape[1], segment.shape[1], dtype=torch.bool).tril()
    batch["attention_mask"] = ((same | (segment == 0)[:, None, :]) & causal)[:, None]
    if "pixels" in rows[0]:
        batch["pixels"] = torch.stack([r["pixels"] for r in rows])
    return batch

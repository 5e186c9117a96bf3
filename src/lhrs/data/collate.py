"""Collation of rows of `lhrs.data.chat_dataset` to batches, padded or packed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lhrs.data.chat_dataset import IGNORE


@dataclass(frozen=True)
class Collator:
    """Concatenate the images of all rows, and pad or pack their tokens.

    The model reads images in the order of their placeholders. A row may have any number of images, and a batch none.
    """

    pad_id: int
    pack: int | None = None
    """Pack several samples into rows of about this many tokens and nearly equal length, instead of padding. Positions
    restart at every sample; transformers derives from them the block-diagonal attention mask."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids` and `labels` `(B, T)`, and the concatenated images, or levels of features, of the rows.

        Padded: also `attention_mask` `(B, T)`. Packed: also `position_ids` `(B, T)`, and B is smaller than the number
        of samples.
        """
        if self.pack is None:
            ids = [row["input_ids"] for row in rows]
            batch = self._rectangle(ids, [row["labels"] for row in rows])
            batch["attention_mask"] = pad_sequence([torch.ones_like(x) for x in ids], batch_first=True)
        else:
            lines = pack_sequences([len(row["input_ids"]) for row in rows], self.pack)
            rows = [rows[n] for line in lines for n in line]  # images follow their placeholders
            ends = torch.tensor([len(line) for line in lines]).cumsum(0).tolist()
            parts = [rows[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            ids = [torch.cat([row["input_ids"] for row in part]) for part in parts]
            batch = self._rectangle(ids, [torch.cat([_first_ignored(row["labels"]) for row in part]) for part in parts])
            counts = [torch.cat([torch.arange(len(row["input_ids"])) for row in part]) for part in parts]
            # Padding tokens have position 0: each is a separate sample.
            batch["position_ids"] = pad_sequence(counts, batch_first=True)
        if images := [row["pixel_values"] for row in rows if "pixel_values" in row]:
            batch["pixel_values"] = torch.cat(images)
        if cached := [row["image_levels"] for row in rows if "image_levels" in row]:
            batch["image_levels"] = [torch.cat(level) for level in zip(*cached, strict=True)]
        return batch

    def _rectangle(self, ids: list[Tensor], labels: list[Tensor]) -> dict[str, Any]:
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        }


def _first_ignored(labels: Tensor) -> Tensor:
    """Return labels with the first token ignored: the token before it belongs to another sample."""
    return torch.cat([labels.new_full((1,), IGNORE), labels[1:]])


def pack_sequences(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return the samples of each packed row; rows of about `tokens` tokens have nearly equal length.

    The longest sample is assigned first, each to the currently shortest row (Graham 1969). No row is longer than the
    average row plus the longest sample.
    """
    count = min(max(round(sum(lengths) / tokens), 1), len(lengths))
    lines: list[list[int]] = [[] for _ in range(count)]
    filled = [0] * count
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        shortest = filled.index(min(filled))
        lines[shortest].append(n)
        filled[shortest] += lengths[n]
    return lines

"""Rows of `lhrs.data.chat` to batches."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lhrs.data.chat import IGNORE


@dataclass(frozen=True)
class Collator:
    """Pad rows on the right and put the images of all rows one after the other.

    The model takes images in the order of their placeholders, so a row may have any number of them, and a batch none.
    """

    pad_id: int

    def __call__(self, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `labels` `(B, T)`, and `pixel_values` `(images, 3, H, W)` if any."""
        ids = [row["input_ids"] for row in rows]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            "attention_mask": pad_sequence([torch.ones_like(x) for x in ids], batch_first=True),
            "labels": pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=IGNORE),
        }
        images = [row["pixel_values"] for row in rows if "pixel_values" in row]
        return {**batch, "pixel_values": torch.cat(images)} if images else batch

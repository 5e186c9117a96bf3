"""LHRS-Align: images with captions and facts, as `lhrs align build` and `lhrs align recaption` write them."""

import os
from pathlib import Path
from typing import Any

from lhrs.data.dataset import CAPTION_QUESTION, Dataset
from lhrs.errors import DataError, MissingExtraError
from lhrs.schema import Box, Sample, Turn

_INDEX, _MANIFEST = "index.parquet", "manifest.json"
_MOST_SHARE = 0.5


class Align(Dataset):
    """One sample per image: its caption, and boxes of its visible objects except roads and other lines.

    Format: the table `index.parquet`, with facts of OpenStreetMap, and images next to it.
    """

    homepage = "https://github.com/NJU-LHRS/LHRS-Bot"
    license = "ODbL-1.0 (captions, boxes); images as each sample states"
    layout = "a folder made by `lhrs align build`: index.parquet and manifest.json"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if split is not None:
            raise DataError(f"{self.root} has no splits.")
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise MissingExtraError("reading Parquet needs the extra `data`: pip install 'lhrs[data]'") from None
        path = self.root / _INDEX
        try:
            self._table = parquet.read_table(path)
        except Exception as error:  # exceptions of the file system and Arrow
            raise DataError(f"{path} is not a whole Parquet file: {' '.join(str(error).split())}.") from None
        lacking = {"id", "image", "caption", "facts", "license"} - set(self._table.column_names)
        if lacking:
            raise DataError(f"{path} is no index of an alignment data set: it has no column {min(lacking)!r}.")

    def __len__(self) -> int:
        return len(self._table)

    def load(self, index: int) -> Sample:
        (row,) = self._table.slice(index, 1).to_pylist()
        image = [os.path.join(self.root, row["image"])] if row["image"] else []
        turns = [Turn(role="user", text=CAPTION_QUESTION), Turn(role="assistant", text=row["caption"])]
        licenses = dict.fromkeys([row["license"], row["text_license"]])
        return Sample(
            id=row["id"], images=image, turns=turns, boxes=_boxes(row["facts"]), source="lhrs-align",
            license=" AND ".join(filter(None, licenses)), attribution=row["attribution"], task="caption",
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return (root / _INDEX).is_file() and (root / _MANIFEST).is_file()


def _boxes(facts: list[dict[str, Any]]) -> list[Box]:
    """Return boxes of visible objects, by their most specific label."""
    labeled: set[str] = set()
    boxes = []
    for fact in sorted(facts, key=lambda fact: fact["parent"] is None):
        if fact["length_m"] > 0 or not fact["visible"] or fact["largest_area_fraction"] > _MOST_SHARE:
            continue
        for identity, box, is_visible in zip(fact["osm_ids"], fact["boxes"], fact["object_visible"], strict=True):
            if is_visible and identity not in labeled:
                labeled.add(identity)
                boxes.append(Box(label=fact["kind"], xyxy=tuple(box)))
    return boxes

"""UC Merced with captions and questions: `index.jsonl` next to the class folders.

Images: Yang and Newsam, 2010. Captions: Qu et al., 2016 (UCM-captions). Questions: Zheng et al., 2021 (RSIVQA).
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import CAPTION_QUESTION, Dataset, filter_split, first_row, qa_turns, read_json_lines
from lhrs.errors import DataError
from lhrs.schema import Sample


class _Row(NamedTuple):
    file: str
    label: str
    split: str
    key: str
    """Index among the captions or questions of the image."""
    question: str
    answer: str


class UCMCaptions(Dataset):
    """One sample per caption and per question, each with the scene class as label.

    Format: `index.jsonl` with `file`, `label`, `split`, `captions` and `qa`. Most images repeat a caption word for
    word; repeats are left out.
    Classes: 21 land-use classes, 100 images of 256 x 256 pixels each.
    Splits: as `split` names them.
    """

    homepage = "http://weegee.vision.ucmerced.edu/datasets/landuse.html"
    license = "images public domain; captions and questions unstated"
    layout = "a folder with index.jsonl (file, label, split, captions, qa) and the class folders"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        path = self.root / "index.jsonl"
        rows = [row for where, record in read_json_lines(path) for row in self._parse(record, where)]
        self.classes = sorted({row.label for row in rows})
        self._rows = filter_split(rows, [row.split for row in rows], split, path)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        return Sample(
            id=f"ucm-captions/{os.path.splitext(row.file)[0]}/{row.key}",
            images=[str(self.root / row.file)],
            turns=qa_turns(row.question, row.answer),
            labels=[row.label],
            source="ucm-captions",
            license=self.license,
            split=row.split,
            attribution="UC Merced Land Use (Yang and Newsam, 2010), UCM-captions (Qu et al., 2016), RSIVQA",
            task=row.key.partition("-")[0],
        )

    def _parse(self, record: dict[str, Any], where: str) -> list[_Row]:
        rows = _rows(record, where)
        distinct = {(row.question, row.answer): row for row in reversed(rows)}
        kept = [row for row in rows if distinct[row.question, row.answer] is row]
        for row in rows:
            if distinct[row.question, row.answer] is not row:
                self.drop("repeated captions and questions", f"{row.file}/{row.key}")
        return kept

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return {"file", "label", "split", "captions", "qa"} <= first_row(root / "index.jsonl").keys()


def _rows(record: dict[str, Any], where: str) -> list[_Row]:
    try:
        image = record["file"], record["label"], record["split"]
        captions = [(f"caption-{i}", CAPTION_QUESTION, text) for i, text in enumerate(record["captions"])]
        questions = [(f"question-{i}", pair["q"], pair["a"]) for i, pair in enumerate(record["qa"])]
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: not a row of UCM-captions, {error!r}.") from None
    return [_Row(*image, key, question, answer) for key, question, answer in captions + questions]

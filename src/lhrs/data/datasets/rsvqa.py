"""RSVQA, low and high resolution (Lobry et al., 2020, arXiv:2003.07333), in the layout of its Zenodo records."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import Dataset, keep_split, question_and_answer, read_json
from lhrs.errors import DataError
from lhrs.schema import Sample

_QUESTIONS = re.compile(r"(.+)_split_(.+)_questions\.json")
_SOURCES = {"LR": "rsvqa-lr", "USGS": "rsvqa-hr"}
_IMAGE_FOLDERS = ("Images_LR", "Data", "images", "Images", "")
"""As the archives unpack (LR, HR), then what people rename them to, then beside the annotations."""


class _Row(NamedTuple):
    source: str
    split: str
    id: int
    image: int
    task: str
    question: str
    answer: str


class RSVQA(Dataset):
    """One sample per question; its type is the sample's task. Entries that are not active are left out.

    Answers are as annotated: counts are numbers and areas are like `6500m2`, not yet the ranges that benchmarks use.
    """

    homepage = "https://rsvqa.sylvainlobry.com"
    licence = "CC-BY-4.0"
    layout = "a folder with {LR,USGS}_split_<split>_{questions,answers,images}.json and the images"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        found = _list_questions(self.root)
        if not found:
            raise DataError(
                f"{self.root} has no *_split_*_questions.json. Expected {self.layout}; see {self.homepage}."
            )
        kept = keep_split(found, [match[2] for match in found], split, self.root)
        self._rows = [row for match in kept for row in _read_split(self.root, match[1], match[2])]
        first = f"{self._rows[0].image}.tif" if self._rows else ""
        folders = [self.root / name for name in _IMAGE_FOLDERS]
        self._images = next((folder for folder in folders if (folder / first).exists()), folders[0])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        row = self._rows[index]
        return Sample(
            id=f"{row.source}/{row.split}/{row.id}",
            images=[str(self._images / f"{row.image}.tif")],
            turns=question_and_answer(row.question, row.answer),
            source=row.source,
            licence=self.licence,
            split=row.split,
            attribution="RSVQA (Lobry et al., 2020)",
            task=row.task,
        )

    @classmethod
    def fits(cls, root: Path) -> bool:
        return bool(_list_questions(root))


def _list_questions(root: Path) -> list[re.Match[str]]:
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return [match for name in names if (match := _QUESTIONS.fullmatch(name))]


def _read_split(root: Path, prefix: str, split: str) -> Iterable[_Row]:
    """Yield the active questions on active images, in the order of the file."""
    tables = {}
    for kind in ("questions", "answers", "images"):
        path = root / f"{prefix}_split_{split}_{kind}.json"
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get(kind), list):
            raise DataError(f"{path} is not RSVQA's layout: it has no list {kind!r}.")
        tables[kind] = [entry for entry in content[kind] if _get(entry, "active", path)]
    answers = {_get(entry, "id", path): entry for entry in tables["answers"]}
    images = {_get(entry, "id", path) for entry in tables["images"]}
    path = root / f"{prefix}_split_{split}_questions.json"
    for entry in tables["questions"]:
        number, image = _get(entry, "id", path), _get(entry, "img_id", path)
        if image not in images:
            continue
        active = [answers[i] for i in _get(entry, "answers_ids", path) if i in answers]
        if not active:
            raise DataError(f"{path}: question {number} has no active answer in {prefix}_split_{split}_answers.json.")
        task, question = _get(entry, "type", path), _get(entry, "question", path)
        answer = str(_get(active[0], "answer", path))
        yield _Row(_SOURCES.get(prefix, prefix), split, number, image, task, question, answer)


def _get(entry: dict[str, Any], key: str, path: Path) -> Any:
    try:
        return entry[key]
    except (KeyError, TypeError):
        raise DataError(f"{path} is not RSVQA's layout: an entry has no {key!r}: {str(entry)[:80]}.") from None

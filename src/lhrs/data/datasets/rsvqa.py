"""RSVQA, low and high resolution (Lobry et al., 2020, arXiv:2003.07333), in the layout of its Zenodo records."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import Dataset, filter_split, qa_turns, read_json
from lhrs.errors import DataError
from lhrs.schema import Sample

_QUESTIONS = re.compile(r"(.+)_split_(.+)_questions\.json")
_SOURCES = {"LR": "rsvqa-lr", "USGS": "rsvqa-hr"}
_IMAGE_FOLDERS = ("Images_LR", "Data", "images", "Images", "")
"""Image folders: as in the archives (LR, HR), then common other names, then next to the annotations."""


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

    Format: for each split three JSON files, of questions, answers and images, with GeoTIFFs by number. Answers are as
    annotated: counts are numbers and areas are like `6500m2`, not the ranges that benchmarks use.
    Size: 772 images and 77,232 questions (LR), 10,659 and 1,066,316 (HR).
    """

    homepage = "https://rsvqa.sylvainlobry.com"
    license = "CC-BY-4.0"
    download_hint = "Download https://zenodo.org/records/6344334 (LR) or https://zenodo.org/records/6344367 (HR)."
    layout = "a folder with {LR,USGS}_split_<split>_{questions,answers,images}.json and the images"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_questions(self.root)
        if not files:
            raise DataError(
                f"{self.root} has no *_split_*_questions.json. Expected {self.layout}; see {self.homepage}."
            )
        kept = filter_split(files, [match[2] for match in files], split, self.root)
        self._rows = [row for match in kept for row in self._read_split(match[1], match[2])]
        first = f"{self._rows[0].image}.tif" if self._rows else ""
        folders = [self.root / name for name in _IMAGE_FOLDERS]
        self._images = next((folder for folder in folders if (folder / first).exists()), folders[0])

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        return Sample(
            id=f"{row.source}/{row.split}/{row.id}",
            images=[str(self._images / f"{row.image}.tif")],
            turns=qa_turns(row.question, row.answer),
            source=row.source,
            license=self.license,
            split=row.split,
            attribution="RSVQA (Lobry et al., 2020)",
            task=row.task,
        )

    def _read_split(self, prefix: str, split: str) -> Iterable[_Row]:
        """Yield the active questions on active images, in the order of the file."""
        tables = {}
        for kind in ("questions", "answers", "images"):
            path = self.root / f"{prefix}_split_{split}_{kind}.json"
            content = read_json(path)
            if not isinstance(content, dict) or not isinstance(content.get(kind), list):
                raise DataError(f"{path} is not RSVQA's layout: it has no list {kind!r}.")
            tables[kind] = [entry for entry in content[kind] if _get(entry, "active", path)]
            for entry in content[kind] if kind == "questions" and len(tables[kind]) < len(content[kind]) else []:
                if not entry["active"]:
                    self.drop("inactive questions", f"{split}/{entry.get('id')}")
        answers = {_get(entry, "id", path): entry for entry in tables["answers"]}
        images = {_get(entry, "id", path) for entry in tables["images"]}
        path = self.root / f"{prefix}_split_{split}_questions.json"
        for entry in tables["questions"]:
            number, image = _get(entry, "id", path), _get(entry, "img_id", path)
            if image not in images:
                self.drop("questions about inactive images", f"{split}/{number}")
                continue
            active = [answers[i] for i in _get(entry, "answers_ids", path) if i in answers]
            if not active:
                raise DataError(
                    f"{path}: question {number} has no active answer in {prefix}_split_{split}_answers.json."
                )
            task, question = _get(entry, "type", path), _get(entry, "question", path)
            answer = str(_get(active[0], "answer", path))
            yield _Row(_SOURCES.get(prefix, prefix), split, number, image, task, question, answer)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_questions(root))


def _list_questions(root: Path) -> list[re.Match[str]]:
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    return [match for name in names if (match := _QUESTIONS.fullmatch(name))]


def _get(entry: dict[str, Any], key: str, path: Path) -> Any:
    try:
        return entry[key]
    except (KeyError, TypeError):
        raise DataError(f"{path} is not RSVQA's layout: an entry has no {key!r}: {str(entry)[:80]}.") from None

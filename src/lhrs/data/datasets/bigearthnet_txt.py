"""BigEarthNet.txt (Herzog et al., 2026): questions, captions and boxes on the images of BigEarthNet v2.0."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.data.dataset import Dataset, filter_split
from lhrs.data.datasets._conversations import Message, to_turns
from lhrs.data.datasets.parquet import open_parquet
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.schema import Sample

_REQUIRED = ("ID", "patch_id", "input", "output", "type")
_READ = (*_REQUIRED, "split")
_PLACES = ("BigEarthNet-S2", "images", "")
_FOOTER_TAIL_BYTES = 8


class BigEarthNetTxt(Dataset):
    """One sample per annotation, on the Sentinel-2 image.

    Format: a Parquet file with `ID`, `patch_id`, `input`, `output`, `type` (captioning, binary, mcq, bounding box) and
    `split`. A box is `[x1 y1, x2 y2]` in fractions of the image. The image of a patch is its folder of bands,
    `BigEarthNet-S2/TILE/PATCH` as the archive of BigEarthNet v2.0 has it, or one file `PATCH.tif` (.png, .jpg). The
    Sentinel-1 patch (`s1_name`) and other columns are counted as left out. A row group is decoded when needed.
    Splits: as `split` names them: train, validation, test, and the verified benchmark.
    Size: 9.6 million annotations of 464,044 patches of 120 x 120 pixels, 10 m. Tasks: see `type`.
    """

    homepage = "https://huggingface.co/datasets/BIFOLD-BigEarthNetv2-0/BigEarthNet.txt"
    license = "CDLA-Permissive-1.0"
    download_hint = (
        "huggingface-cli download --repo-type dataset BIFOLD-BigEarthNetv2-0/BigEarthNet.txt; images: "
        "BigEarthNet-S2.tar.zst of https://zenodo.org/records/10891137"
    )
    layout = "a file BigEarthNet.txt.parquet, or a folder with it, and BigEarthNet-S2 near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            raise DataError(f"{self.root} contains {len(files)} Parquet files of annotations. Expected {self.layout}.")
        self._path = files[0]
        with open_parquet(self._path) as file:
            columns = file.schema_arrow.names
            lengths = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            column = file.read(["split"])["split"] if split is not None and "split" in columns else None
        for name in columns:
            if name not in _READ:
                self.drop("columns", name)
        self._columns = [name for name in _READ if name in columns]
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self._numbers = np.arange(self._starts[-1])
        if split is not None:
            known = [] if column is None else column.unique().to_pylist()
            names = filter_split(known or [None], known or [None], split, self._path)
            self._numbers = np.flatnonzero(_is_one_of(column, names))
        self._group: tuple[int, Any] = (-1, None)

    def __len__(self) -> int:
        return len(self._numbers)

    def load(self, index: int) -> Sample:
        where, row = self.where(index), self._row(int(self._numbers[index]))
        for column in _REQUIRED:
            if row.get(column) is None:
                raise DataError(f"{where}: has no `{column}`.")
        images = [str(self._find(str(row["patch_id"])))]
        messages = [Message("user", str(row["input"])), Message("assistant", str(row["output"]))]
        return Sample(
            id=f"bigearthnet-txt/{row['ID']}", images=images, turns=to_turns(messages, images, where),
            source="bigearthnet-txt", license=self.license, split=row.get("split"),
            attribution="BigEarthNet v2.0 (Clasen et al., 2024), BigEarthNet.txt (Herzog et al., 2026)",
            task=str(row["type"]),
        )  # fmt: skip

    def where(self, index: int) -> str:
        return f"{self._path}, row {self._numbers[index]}"

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return len(_list_files(root)) == 1

    def _row(self, number: int) -> dict[str, Any]:
        group = int(np.searchsorted(self._starts, number, side="right")) - 1
        if self._group[0] != group:
            with open_parquet(self._path) as file:
                self._group = group, file.read_row_group(group, self._columns)
        return self._group[1].slice(number - int(self._starts[group]), 1).to_pylist()[0]

    def _find(self, patch: str) -> Path:
        """Return the folder of a patch's bands, or its image; the expected folder if there is none."""
        tile = patch.rsplit("_", 2)[0]
        tops = [folder / place for folder in (self._path.parent, self._path.parent.parent) for place in _PLACES]
        for top in tops:
            for folder in (top / tile / patch, top / patch):
                if folder.is_dir():
                    return folder
            for suffix in sorted(IMAGE_SUFFIXES):
                if (top / f"{patch}{suffix}").is_file():
                    return top / f"{patch}{suffix}"
        return tops[0] / tile / patch


def _is_one_of(column: Any, names: list[Any]) -> np.ndarray:
    """Return bool `(N,)`, whether the values of an Arrow column are among the names."""
    import pyarrow as arrow
    import pyarrow.compute as compute

    return compute.is_in(column, value_set=arrow.array(names)).to_numpy()


def _list_files(root: Path) -> list[Path]:
    paths = sorted(root.iterdir()) if root.is_dir() else [root]
    return [path for path in paths if path.suffix == ".parquet" and path.is_file() and _has_columns(path)]


def _has_columns(path: Path) -> bool:
    """Return whether the footer of a Parquet file names the columns, without pyarrow."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if end < _FOOTER_TAIL_BYTES:
            return False
        file.seek(end - _FOOTER_TAIL_BYTES)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, end - _FOOTER_TAIL_BYTES - length))
        footer = file.read(length)
    return all(column.encode() in footer for column in _REQUIRED)

"""Our own schema as Parquet: one `lhrs.schema.Sample` a row, its fields as columns."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.data.dataset import Dataset, filter_split, parse_sample
from lhrs.errors import DataError, MissingExtraError
from lhrs.schema import Sample

_METADATA = "metadata.parquet"
"""The table of a `metadata_folder`, which is no sample of ours."""


class Parquet(Dataset):
    """Samples from Parquet files.

    Format: one `lhrs.schema.Sample` a row; null is the field's default. A row group is decoded when first needed, and
    kept. Relative image paths begin at the file's folder.
    """

    homepage = "https://parquet.apache.org"
    license = "stated by each sample"
    layout = "a .parquet file with one sample a row, or a folder of them"
    is_fallback = True

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._files = _list_files(self.root)
        if not self._files:
            raise DataError(f"{self.root} contains no .parquet file.")
        places: list[tuple[int, int, int]] = []
        splits: list[str | None] = []
        for i, path in enumerate(self._files):
            with open_parquet(path) as file:
                places += [
                    (i, group, row)
                    for group in range(file.num_row_groups)
                    for row in range(file.metadata.row_group(group).num_rows)
                ]
                if split is not None:
                    has_splits = "split" in file.schema_arrow.names
                    column = file.read(["split"])["split"].to_pylist() if has_splits else []
                    splits += column if has_splits else [None] * file.metadata.num_rows
        if split is not None:
            places = filter_split(places, splits, split, self.root)
        self._places = np.array(places, np.int64).reshape(-1, 3)
        self._groups: dict[tuple[int, int], Any] = {}

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        i, group, row = self._places[index].tolist()
        if (i, group) not in self._groups:
            with open_parquet(self._files[i]) as file:
                self._groups[i, group] = file.read_row_group(group)
        (values,) = self._groups[i, group].slice(row, 1).to_pylist()
        where = f"{self._files[i]}, row group {group}, row {row}"
        return parse_sample(_without_nulls(values), self._files[i].parent, where)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root)) and not (root / "manifest.json").exists()  # that is an alignment data set


def _list_files(root: Path) -> list[Path]:
    paths = sorted(root.iterdir()) if root.is_dir() else [root]
    return [p for p in paths if p.suffix == ".parquet" and p.name != _METADATA and p.is_file()]


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """Open a file as pyarrow's `ParquetFile`.

    Raises:
        DataError: It is broken.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("reading Parquet needs the extra `data`: pip install 'lhrs[data]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}.") from error


def _without_nulls(value: Any) -> Any:
    """Drop the keys whose value is null, at every depth: Parquet has no other way to leave a field out."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value

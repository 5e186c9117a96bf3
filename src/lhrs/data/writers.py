"""Writers of samples: JSON lines or Parquet."""

from collections.abc import Sequence
from pathlib import Path

from lhrs.atomic_io import atomic_write, write_atomic
from lhrs.imagery.locations import relative_name
from lhrs.schema import Sample


def write_samples(samples: Sequence[Sample], path: Path) -> None:
    """Write samples atomically; image paths become relative to the file.

    Args:
        samples: In their order.
        path: A .jsonl or .parquet file.
    """
    folder = path.absolute().parent
    rows = [
        sample.model_copy(update={"images": [relative_name(image, folder) for image in sample.images]}).model_dump(
            mode="json", exclude_defaults=True
        )
        for sample in samples
    ]
    folder.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        import json

        write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_write(path) as part:
        pq.write_table(pa.Table.from_pylist(_all_keys(rows)), part, compression="zstd", row_group_size=4096)


def _all_keys(rows: list[dict]) -> list[dict]:
    """Add missing keys to every row: Arrow uses the columns of the first row."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key) for key in keys} for row in rows]

"""Which of the described footprints a data set keeps."""

import hashlib
from collections import defaultdict

import numpy as np
import pyarrow as pa


def choose(
    table: pa.Table, max_nodata: float, max_cloud: float, per_category: int | None, seed: int
) -> tuple[pa.Table, dict[str, int]]:
    """Return the rows kept, in their order, and how many were left out for which reason.

    Args:
        table: rows of a data set.
        max_nodata: share of an image that may be nothing.
        max_cloud: share that may be cloud.
        per_category: at most so many of each category; which ones follows from seed and id. None keeps all.
        seed: of that choice.
    """
    dropped: dict[str, int] = {}
    for name, limit in (("nodata_share", max_nodata), ("cloud_share", max_cloud)):
        values = table[name].to_numpy(zero_copy_only=False).astype(float)
        keep = ~(values > limit)
        if not keep.all():
            dropped[name.removesuffix("_share")] = int((~keep).sum())
            table = table.take(np.flatnonzero(keep))
    if per_category is not None:
        by_category: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
        for n, (identity, category) in enumerate(
            zip(table["id"].to_pylist(), table["category"].to_pylist(), strict=True)
        ):
            by_category[category].append((hashlib.blake2b(f"{seed}:{identity}".encode(), digest_size=8).digest(), n))
        kept = sorted(n for members in by_category.values() for _, n in sorted(members)[:per_category])
        if len(kept) < len(table):
            dropped["balance"] = len(table) - len(kept)
            table = table.take(kept)
    return table, dropped

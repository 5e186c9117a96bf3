"""Filters of described footprints: missing data, clouds, balance of categories."""

from collections import defaultdict

import numpy as np
import pyarrow as pa

from lhrs import fingerprint
from lhrs.dropped import Dropped


def filter_rows(
    table: pa.Table,
    max_nodata: float,
    max_cloud: float,
    max_per_category: int | None,
    seed: int,
    dropped: Dropped,
) -> pa.Table:
    """Return the rows that pass, in their order.

    Args:
        table: rows of a dataset.
        max_nodata: largest fraction of an image without data.
        max_cloud: largest fraction of an image under clouds.
        max_per_category: largest number of rows of a category, sampled by seed and id; None keeps all.
        seed: seed of that sample.
        dropped: receives the counts of the dropped rows.
    """
    limits = (
        ("nodata_fraction", max_nodata, "images without enough data"),
        ("cloud_fraction", max_cloud, "cloudy images"),
    )
    for name, limit, reason in limits:
        values = table[name].to_numpy(zero_copy_only=False).astype(float)
        passes = ~(values > limit)
        dropped.add(reason, count=int((~passes).sum()))
        table = table.take(np.flatnonzero(passes))
    if max_per_category is not None:
        by_category: dict[str, list[tuple[str, int]]] = defaultdict(list)
        rows = zip(table["id"].to_pylist(), table["category"].to_pylist(), strict=True)
        for n, (identity, category) in enumerate(rows):
            rank = fingerprint.of_bytes(f"{seed}:{identity}".encode())
            by_category[category].append((rank, n))
        sampled = sorted(n for members in by_category.values() for _, n in sorted(members)[:max_per_category])
        dropped.add("images beyond the limit of their category", count=len(table) - len(sampled))
        table = table.take(sampled)
    return table

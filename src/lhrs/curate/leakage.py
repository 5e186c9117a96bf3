"""Find leaks between a dataset and a test set: duplicate images, near-duplicates, or overlapping ground areas."""

from collections.abc import Sequence

import numpy as np

from lhrs.curate.duplicates import DuplicateCriteria, HashIndex, Match, most_similar

_BLOCK = 1024
_OVERLAP = 0.01
"""Minimum fraction of a footprint that overlaps another one: adjacent footprints overlap slightly by rounding."""


def find_leaks(criteria: DuplicateCriteria, images: np.ndarray, test: np.ndarray) -> list[Match | None]:
    """Return for each image the nearest test image within the criteria: by hash, otherwise by embedding.

    Args:
        criteria: criteria of near-duplicates, with the features of all images.
        images: rows `(N,)` of the dataset.
        test: rows `(T,)` of the test set.
    """
    index = HashIndex(criteria.hashes[test], criteria.bits)
    leaks: list[Match | None] = []
    for row in images:
        near, _ = index.near(criteria.hashes[row])
        hit = criteria.nearest_by_hash(np.array([row]), test[near, None]) if len(near) else None
        leaks.append(Match(int(near[hit[0]]), bits=hit[1]) if hit else None)
    if criteria.embeddings is not None:
        theirs = criteria.embeddings[test, None]
        for start in range(0, len(images), _BLOCK):
            where, cosines = most_similar(criteria.embeddings[images[start : start + _BLOCK], None], theirs)
            for n, (at, cosine) in enumerate(zip(where.tolist(), cosines.tolist(), strict=True), start):
                if leaks[n] is None and cosine >= criteria.similarity:
                    leaks[n] = Match(at, similarity=round(cosine, 4))
    return leaks


def find_overlaps(footprints: Sequence[bytes | None], test_footprints: Sequence[bytes]) -> list[int | None]:
    """Return for each footprint the first test footprint that covers more than 1 % of it.

    Args:
        footprints: WKB, longitude and latitude.
        test_footprints: WKB, longitude and latitude.
    """
    import shapely

    shapes = shapely.from_wkb(np.array(test_footprints, object))
    tree = shapely.STRtree(shapes)
    overlaps: list[int | None] = []
    for footprint in footprints:
        near = shares = np.empty(0, np.int64)
        if footprint is not None:
            shape = shapely.from_wkb(footprint)
            near = np.sort(tree.query(shape))
            shares = shapely.area(shapely.intersection(shapes[near], shape)) / shapely.area(shape)
        over = near[shares > _OVERLAP]
        overlaps.append(int(over[0]) if len(over) else None)
    return overlaps

"""Find duplicate images: equal pixels, similar perceptual hashes or similar embeddings.

The hash encodes low frequencies. Water, fields and forest have little energy there, so that their hashes may be similar
by coincidence. A hash therefore only proposes candidates: the thumbnails of both images must also correlate.

Images are visited in order of preference. An image is dropped if it is near a kept image. Therefore no two kept images
are near each other, and each dropped image is near a kept image. A chain of images, each near the next, does not merge
dissimilar images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

_AGREEMENT = 0.9
"""Minimum correlation of the thumbnails of near-duplicates. EuroSAT has 48 million pairs of a test and a train image.
Ten pairs have hashes within 6 bits, all by coincidence; their thumbnails correlate by at most 0.87. The thumbnails of
UC Merced and of its copies at JPEG quality 30 correlate by 0.99 or more, except for 1 %."""
_BLOCK = 1024
_BASE = 16384
_QUARTERS = np.array([0, 16, 32, 48], np.uint64)
_NUM_SET = np.array([value.bit_count() for value in range(1 << 16)], np.uint8)


@dataclass(frozen=True)
class Match:
    """The image that an image is near to."""

    index: int
    bits: int | None = None
    """Hamming distance of the hashes if they match; 0 for equal pixels."""
    similarity: float | None = None
    """Cosine similarity of the embeddings if they match."""


def hamming(a: np.ndarray, b: np.ndarray | np.uint64) -> np.ndarray:
    """Return the number of bits in which uint64 hashes differ, with numpy broadcasting."""
    different = np.ascontiguousarray(np.bitwise_xor(a, b))
    return _NUM_SET[different[..., None].view(np.uint16)].sum(-1, dtype=np.int64)


@dataclass(frozen=True)
class DuplicateCriteria:
    """Features by which images are compared, and the thresholds of near-duplicates."""

    hashes: np.ndarray
    """uint64 `(N,)`."""
    thumbnails: np.ndarray
    """uint8 `(N, 8, 8, 3)`."""
    bits: int
    """Maximum Hamming distance of the hashes of near-duplicates; -1: hashes are not used."""
    embeddings: np.ndarray | None = None
    """float32 `(N, D)` of length 1; None: embeddings are not used."""
    similarity: float = 1.0
    """Minimum cosine similarity of the embeddings of near-duplicates."""

    def nearest_by_hash(self, images: np.ndarray, others: np.ndarray) -> tuple[int, int] | None:
        """Return the index of the nearest set of images and its distance; None if no set is near.

        Args:
            images: rows `(M,)`.
            others: rows `(K, M)`; two sets are near if all their images are.
        """
        distances = hamming(self.hashes[others], self.hashes[images]).max(1)
        agreements = correlation(self.thumbnails[others], self.thumbnails[images]).min(1)
        distances[agreements < _AGREEMENT] = 65
        at = int(distances.argmin())
        return (at, int(distances[at])) if distances[at] <= self.bits else None


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation of thumbnails `(..., 8, 8, 3)`, at most 1. Brightness, contrast and tint do not matter."""
    a, b = (values - values.mean((-3, -2), keepdims=True) for values in (a.astype(float), b.astype(float)))
    scale = np.sqrt((a**2).sum((-3, -2, -1)) * (b**2).sum((-3, -2, -1)))
    return (a * b).sum((-3, -2, -1)) / np.maximum(scale, 1e-9)


class HashIndex:
    """Index that finds all hashes within a few bits of a hash without comparing all of them.

    If two hashes differ in r bits, at least one of their four quarters differs in at most r // 4 bits. Only hashes with
    such a quarter are compared.
    """

    def __init__(self, hashes: np.ndarray, bits: int) -> None:
        """Sort hashes by each of their quarters.

        Args:
            hashes: uint64 `(N,)`.
            bits: maximum distance of near hashes; -1: no hash is near.
        """
        self.hashes, self.bits = hashes, bits
        quarters = self._quarters(hashes)
        self._order = [np.argsort(quarter, kind="stable") for quarter in quarters]
        self._starts = [
            np.searchsorted(quarter[order], np.arange((1 << 16) + 1))
            for quarter, order in zip(quarters, self._order, strict=True)
        ]
        flips = [sum(1 << bit for bit in chosen) for n in range(bits // 4 + 1) for chosen in combinations(range(16), n)]
        self._flips = np.array(flips, np.int64)

    def near(self, value: np.uint64) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of all hashes near a value, in order, and their distances."""
        positions_near = [np.empty(0, np.int64)]
        for quarter, order, starts in zip(self._quarters(value), self._order, self._starts, strict=True):
            keys = self._flips ^ quarter
            filled = keys[starts[keys + 1] > starts[keys]]
            positions_near += [order[starts[key] : starts[key + 1]] for key in filled]
        positions = np.unique(np.concatenate(positions_near))
        distances = hamming(self.hashes[positions], value)
        return positions[distances <= self.bits], distances[distances <= self.bits]

    @staticmethod
    def _quarters(values: np.ndarray | np.uint64) -> np.ndarray:
        return np.stack([(values >> shift) & np.uint64(0xFFFF) for shift in _QUARTERS]).astype(np.int64)


def most_similar(queries: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each query the index of the most similar row of `base` (the first of equals) and the cosine.

    Args:
        queries: float32 `(Q, M, D)` of length 1; the similarity of several images is that of the least similar pair.
        base: float32 `(K, M, D)`; with K = 0 all cosines are -1.
    """
    best, where = np.full(len(queries), -1.0, np.float32), np.zeros(len(queries), np.int64)
    for start in range(0, len(base), _BASE):
        cosines = _cosines(queries, base[start : start + _BASE])
        at = cosines.argmax(1)
        values = cosines[np.arange(len(at)), at]
        where, best = np.where(values > best, at + start, where), np.maximum(values, best)
    return where, best


def find_exact_duplicates(digests: Sequence[object]) -> list[Match | None]:
    """Return for each item the first previous item with the same digest; None without one."""
    first: dict[object, int] = {}
    first_at = [first.setdefault(digest, n) for n, digest in enumerate(digests)]
    return [Match(at, bits=0) if at < n else None for n, at in enumerate(first_at)]


def find_near_duplicates(criteria: DuplicateCriteria, sets: np.ndarray) -> list[Match | None]:
    """Return for each set of images the kept set that it is near to; None for kept sets.

    Args:
        criteria: criteria of near-duplicates.
        sets: rows `(N, M)` of N sets of M images, preferred sets first. Two sets are near if all their images are.
    """
    index = HashIndex(criteria.hashes[sets[:, 0]], criteria.bits)
    matches: list[Match | None] = []
    stays = np.zeros(len(sets), bool)
    for start in range(0, len(sets), _BLOCK):
        stop = min(start + _BLOCK, len(sets))
        before = np.flatnonzero(stays)
        if criteria.embeddings is not None:
            block = criteria.embeddings[sets[start:stop]]
            where, best = most_similar(block, criteria.embeddings[sets[before]])
            inside = _cosines(block, block)
        for n in range(start, stop):
            near, _ = index.near(index.hashes[n])
            near = near[stays[near]]
            hit = criteria.nearest_by_hash(sets[n], sets[near]) if len(near) else None
            match = Match(int(near[hit[0]]), bits=hit[1]) if hit else None
            if match is None and criteria.embeddings is not None:
                at, cosine = (int(before[where[n - start]]), float(best[n - start])) if len(before) else (0, -1.0)
                here = np.where(stays[start:n], inside[n - start, : n - start], -1)
                if len(here) and here.max() > cosine:
                    at, cosine = start + int(here.argmax()), float(here.max())
                match = Match(at, similarity=round(cosine, 4)) if cosine >= criteria.similarity else None
            stays[n] = match is None
            matches.append(match)
    return matches


def _cosines(queries: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Return cosines `(Q, K)`, each that of the least similar pair of images."""
    return np.min([queries[:, m] @ base[:, m].T for m in range(queries.shape[1])], axis=0)

"""Filters that drop samples, applied in order, each with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lhrs.curate.duplicates import DuplicateCriteria, Match, find_exact_duplicates, find_near_duplicates
from lhrs.curate.image_stats import ImageStats
from lhrs.curate.leakage import find_leaks, find_overlaps
from lhrs.curate.records import CurationRecord

REASONS = {
    "unreadable": "samples with an image that cannot be opened",
    "nodata": "images with too little data",
    "cloud": "images with too many clouds by their metadata",
    "blur": "blurred images",
    "leak": "copies or near-duplicates of images in a test set",
    "ground": "images that overlap an image of a test set on the ground",
    "duplicate": "duplicates of another sample",
    "near-duplicate": "near-duplicates of another image",
    "low-score": "samples below the fraction to keep, by score",
}
"""Reasons why samples are dropped, in the order of the filters."""


@dataclass
class FilterDecision:
    """The decision on a sample, which is kept if there is no reason to drop it."""

    reason: str | None = None
    match: Match | None = None
    """For duplicates, the index of the kept sample. For leaks, the index of the test sample."""
    why: str | None = None
    """Details in addition to the reason."""


def drop_bad_images(
    decisions: Sequence[FilterDecision], records: Sequence[CurationRecord], stats: ImageStats,
    scores: dict[str, np.ndarray], max_nodata: float, max_cloud: float, min_sharpness: float,
) -> None:  # fmt: skip
    """Drop samples with unusable images. Samples without images, or with unknown fractions, pass."""
    limits = (
        ("nodata", scores["nodata_fraction"] > max_nodata),
        ("cloud", scores["cloud_fraction"] > max_cloud),
        ("blur", scores["sharpness"] < min_sharpness),
    )
    for n, (decision, record) in enumerate(zip(decisions, records, strict=True)):
        error = next(filter(None, (stats.errors[row] for row in stats.rows_of(record.images))), None)
        if error is not None:
            decision.reason, decision.why = "unreadable", error
        else:
            decision.reason = next((reason for reason, beyond in limits if beyond[n]), None)


def drop_leaks(
    decisions: Sequence[FilterDecision],
    records: Sequence[CurationRecord],
    stats: ImageStats,
    test: Sequence[CurationRecord],
    criteria: DuplicateCriteria,
) -> None:
    """Drop samples that share an image or ground area with a test set.

    Args:
        decisions: samples that already have a reason are skipped.
        records: the samples.
        stats: statistics of the images of both datasets.
        test: samples of the test set.
        criteria: criteria of near-duplicates.
    """
    owner: dict[int, int] = {}
    for n, record in enumerate(test):
        for row in stats.rows_of(record.images):
            if stats.errors[row] is None:
                owner.setdefault(row, n)
    judged = [record for decision, record in zip(decisions, records, strict=True) if decision.reason is None]
    images = sorted({row for record in judged for row in stats.rows_of(record.images)})
    theirs = sorted(owner)
    by_digest = {stats.digests[row]: owner[row] for row in reversed(theirs)}
    leak_of = {row: Match(by_digest[stats.digests[row]], bits=0) for row in images if stats.digests[row] in by_digest}
    others = [row for row in images if row not in leak_of]
    leaks = find_leaks(criteria, np.array(others, int), np.array(theirs, int))
    leak_of |= {
        row: replace(leak, index=owner[theirs[leak.index]]) for row, leak in zip(others, leaks, strict=True) if leak
    }
    grounds = [n for n, record in enumerate(test) if record.footprint is not None]
    overlaps = find_overlaps([record.footprint for record in records], [test[n].footprint or b"" for n in grounds])
    for decision, record, overlap in zip(decisions, records, overlaps, strict=True):
        if decision.reason is None:
            leak = next((leak_of[row] for row in stats.rows_of(record.images) if row in leak_of), None)
            if leak is not None:
                decision.reason, decision.match = "leak", leak
            elif overlap is not None:
                decision.reason, decision.match = "ground", Match(grounds[overlap])


def drop_duplicates(
    decisions: Sequence[FilterDecision],
    records: Sequence[CurationRecord],
    stats: ImageStats,
    score: np.ndarray,
    criteria: DuplicateCriteria,
) -> None:
    """Drop duplicate samples.

    One of several duplicate images is kept, with all of its samples. It is the image with the best mean score, then
    the most pixels, then the first. Of samples with the same images and the same text, the first is kept.

    Args:
        decisions: samples that already have a reason are skipped.
        records: the samples.
        stats: statistics of their images.
        score: `(N,)`, NaN where unknown.
        criteria: criteria of near-duplicates.
    """
    first_of: dict[tuple, int] = {}
    members: dict[tuple[str, ...], list[int]] = {}
    for n, (decision, record) in enumerate(zip(decisions, records, strict=True)):
        if decision.reason is not None:
            continue
        first = first_of.setdefault((record.images, record.content_digest), n)
        if first < n:
            decision.reason, decision.match = "duplicate", Match(first, bits=0)
        else:
            members.setdefault(record.images, []).append(n)
    worth = {}
    for images, samples in members.items():
        mean = float(np.nan_to_num(score[samples]).mean())
        worth[images] = (-mean, -float(stats.num_pixels[stats.rows_of(images)].sum()), samples[0])
    for num_images in sorted({len(images) for images in members} - {0}):
        # Sets of images are only near sets of the same size.
        preferred = sorted((images for images in members if len(images) == num_images), key=lambda i: worth[i])
        equal = find_exact_duplicates(
            [tuple(stats.digests[row] for row in stats.rows_of(images)) for images in preferred]
        )
        _judge("duplicate", preferred, equal, members, decisions)
        single = [images for images, match in zip(preferred, equal, strict=True) if match is None]
        near = find_near_duplicates(criteria, np.array([stats.rows_of(images) for images in single]))
        _judge("near-duplicate", single, near, members, decisions)
    for decision in decisions:
        # The match of a sample may itself be dropped: report the sample that is kept.
        if decision.reason == "duplicate" and decision.match is not None:
            decision.match = decisions[decision.match.index].match or decision.match


def _judge(
    reason: str,
    sets: Sequence[tuple[str, ...]],
    matches: Sequence[Match | None],
    members: dict[tuple[str, ...], list[int]],
    decisions: Sequence[FilterDecision],
) -> None:
    for images, match in zip(sets, matches, strict=True):
        if match is not None:
            twin = members[sets[match.index]][0]
            for n in members[images]:
                decisions[n].reason, decisions[n].match = reason, Match(twin, match.bits, match.similarity)


def drop_low_scores(decisions: Sequence[FilterDecision], score: np.ndarray, keep_fraction: float) -> None:
    """Keep the best `keep_fraction` of the remaining samples. Ties keep their order, unknown scores are last."""
    left = [n for n, decision in enumerate(decisions) if decision.reason is None]
    ranked = sorted(left, key=lambda n: (-np.nan_to_num(score[n], nan=-1.0), n))
    for n in ranked[math.ceil(round(keep_fraction * len(left), 9)) :]:
        decisions[n].reason = "low-score"

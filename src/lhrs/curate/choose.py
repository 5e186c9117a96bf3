"""Which samples stay: the filters one after another, each with its reason."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lhrs.curate.duplicates import Likeness, Match, find_equal, find_near
from lhrs.curate.entries import Entry
from lhrs.curate.leakage import find_leaks, find_overlaps
from lhrs.curate.pictures import Pictures

REASONS = {
    "unreadable": "an image cannot be opened",
    "nodata": "too much of the image is nothing",
    "cloud": "too much of the image is cloud, as the data say",
    "blur": "not sharp enough",
    "leak": "the test set has the same image, or a near one",
    "ground": "the test set shows the same ground",
    "duplicate": "the same image, or the same words about it, are there once more",
    "near-duplicate": "a near image is there",
    "low-score": "others score better",
}
"""Why samples are left out, in the order in which they are."""


@dataclass
class Verdict:
    """What became of a sample; it stays if there is no reason against it."""

    reason: str | None = None
    match: Match | None = None
    """For duplicates, the place of the sample that stays; for leaks, of the test set's."""
    why: str | None = None
    """In words, where the reason does not say it all."""


def drop_bad_images(
    verdicts: Sequence[Verdict], entries: Sequence[Entry], pictures: Pictures, scores: dict[str, np.ndarray],
    max_nodata: float, max_cloud: float, min_sharpness: float,
) -> None:  # fmt: skip
    """Judge samples whose image cannot be used; those without images, or of unknown shares, pass."""
    limits = (
        ("nodata", scores["nodata_share"] > max_nodata),
        ("cloud", scores["cloud_share"] > max_cloud),
        ("blur", scores["sharpness"] < min_sharpness),
    )
    for n, (verdict, entry) in enumerate(zip(verdicts, entries, strict=True)):
        error = next(filter(None, (pictures.errors[row] for row in pictures.of(entry.images))), None)
        if error is not None:
            verdict.reason, verdict.why = "unreadable", error
        else:
            verdict.reason = next((reason for reason, beyond in limits if beyond[n]), None)


def drop_leaks(
    verdicts: Sequence[Verdict],
    entries: Sequence[Entry],
    pictures: Pictures,
    test: Sequence[Entry],
    likeness: Likeness,
) -> None:
    """Judge samples with an image, or on the ground, of a test set.

    Args:
        verdicts: those with a reason already are not looked at.
        entries: the samples.
        pictures: the images of both.
        test: samples of the test set.
        likeness: of images that show the same.
    """
    owner: dict[int, int] = {}
    for n, entry in enumerate(test):
        for row in pictures.of(entry.images):
            if pictures.errors[row] is None:
                owner.setdefault(row, n)
    judged = [entry for verdict, entry in zip(verdicts, entries, strict=True) if verdict.reason is None]
    images = sorted({row for entry in judged for row in pictures.of(entry.images)})
    theirs = sorted(owner)
    by_digest = {pictures.digests[row]: owner[row] for row in reversed(theirs)}
    leak_of = {
        row: Match(by_digest[pictures.digests[row]], bits=0) for row in images if pictures.digests[row] in by_digest
    }
    others = [row for row in images if row not in leak_of]
    found = find_leaks(likeness, np.array(others, int), np.array(theirs, int))
    leak_of |= {
        row: replace(leak, index=owner[theirs[leak.index]]) for row, leak in zip(others, found, strict=True) if leak
    }
    grounds = [n for n, entry in enumerate(test) if entry.footprint is not None]
    overlaps = find_overlaps([entry.footprint for entry in entries], [test[n].footprint or b"" for n in grounds])
    for verdict, entry, overlap in zip(verdicts, entries, overlaps, strict=True):
        if verdict.reason is None:
            leak = next((leak_of[row] for row in pictures.of(entry.images) if row in leak_of), None)
            if leak is not None:
                verdict.reason, verdict.match = "leak", leak
            elif overlap is not None:
                verdict.reason, verdict.match = "ground", Match(grounds[overlap])


def drop_duplicates(
    verdicts: Sequence[Verdict], entries: Sequence[Entry], pictures: Pictures, score: np.ndarray, likeness: Likeness
) -> None:
    """Judge samples that are there once more.

    Of files that show the same, one stays, with all that is said of it: the one with the best mean score, then with
    the most pixels, then the first. Of samples of the same files that say the same, the first stays.

    Args:
        verdicts: those with a reason already are not looked at.
        entries: the samples.
        pictures: their images.
        score: `(N,)`, NaN where unknown.
        likeness: of images that show the same.
    """
    told: dict[tuple, int] = {}
    members: dict[tuple[str, ...], list[int]] = {}
    for n, (verdict, entry) in enumerate(zip(verdicts, entries, strict=True)):
        if verdict.reason is not None:
            continue
        first = told.setdefault((entry.images, entry.said), n)
        if first < n:
            verdict.reason, verdict.match = "duplicate", Match(first, bits=0)
        else:
            members.setdefault(entry.images, []).append(n)
    worth = {}
    for images, samples in members.items():
        mean = float(np.nan_to_num(score[samples]).mean())
        worth[images] = (-mean, -float(pictures.num_pixels[pictures.of(images)].sum()), samples[0])
    for num_images in sorted({len(images) for images in members} - {0}):
        # Sets of images are only ever near sets of as many.
        preferred = sorted((images for images in members if len(images) == num_images), key=lambda i: worth[i])
        equal = find_equal([tuple(pictures.digests[row] for row in pictures.of(images)) for images in preferred])
        _judge("duplicate", preferred, equal, members, verdicts)
        single = [images for images, match in zip(preferred, equal, strict=True) if match is None]
        near = find_near(likeness, np.array([pictures.of(images) for images in single]))
        _judge("near-duplicate", single, near, members, verdicts)
    for verdict in verdicts:
        # What a sample equals may itself be near another one: the one that stays is named.
        if verdict.reason == "duplicate" and verdict.match is not None:
            verdict.match = verdicts[verdict.match.index].match or verdict.match


def _judge(
    reason: str,
    sets: Sequence[tuple[str, ...]],
    matches: Sequence[Match | None],
    members: dict[tuple[str, ...], list[int]],
    verdicts: Sequence[Verdict],
) -> None:
    for images, match in zip(sets, matches, strict=True):
        if match is not None:
            twin = members[sets[match.index]][0]
            for n in members[images]:
                verdicts[n].reason, verdicts[n].match = reason, Match(twin, match.bits, match.similarity)


def drop_low_scores(verdicts: Sequence[Verdict], score: np.ndarray, top_p: float) -> None:
    """Judge all but the best share `top_p` of the samples that are left; equal scores in order, unknown ones last."""
    left = [n for n, verdict in enumerate(verdicts) if verdict.reason is None]
    ranked = sorted(left, key=lambda n: (-np.nan_to_num(score[n], nan=-1.0), n))
    for n in ranked[math.ceil(round(top_p * len(left), 9)) :]:
        verdicts[n].reason = "low-score"

"""What counts as the same image, and what stays of those that do."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.curate.scenes import scene

from lhrs.curate.duplicates import (
    DuplicateCriteria,
    HashIndex,
    correlation,
    find_exact_duplicates,
    find_near_duplicates,
    hamming,
    most_similar,
)
from lhrs.curate.image_stats import perceptual_hash, thumbnail
from lhrs.curate.leakage import find_leaks, find_overlaps


def likeness(pictures, bits=6, **more):
    pixels = [np.array(picture.convert("RGB")) for picture in pictures]
    hashes = np.array([perceptual_hash(p) for p in pixels], np.uint64)
    return DuplicateCriteria(hashes, np.stack([thumbnail(p) for p in pixels]), bits, **more)


def rows(n):
    return np.arange(n)[:, None]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def reencoded(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize("bits", [-1, 0, 3, 4, 7, 10, 13])
def test_the_index_finds_what_comparing_all_finds(bits):
    rng = np.random.default_rng(bits + 1)
    hashes = rng.integers(0, 2**63, 400, np.uint64) * 2 + rng.integers(0, 2, 400).astype(np.uint64)
    for n in range(300):  # planted neighbours, as far away as the limit and a little further
        flipped = rng.choice(64, rng.integers(0, bits + 4), replace=False)
        hashes[100 + n] = hashes[n % 100] ^ np.uint64(sum(1 << int(bit) for bit in flipped))
    index, num_found = HashIndex(hashes, bits), 0
    for value in hashes[::3]:
        apart = np.array([int(value ^ other).bit_count() for other in hashes])
        positions, distances = index.near(value)
        assert positions.tolist() == np.flatnonzero(apart <= bits).tolist()
        assert distances.tolist() == apart[positions].tolist()
        num_found += len(positions)
    assert (num_found > 134 * 1.5) == (bits > 0)


def test_hamming_counts_bits():
    assert hamming(np.array([0, 7, 2**64 - 1], np.uint64), np.uint64(0)).tolist() == [0, 3, 64]


def test_changed_copies_are_near_and_other_places_are_not():
    originals = [scene(seed) for seed in range(30)]
    changes = [
        lambda p: reencoded(p, 40), lambda p: p.resize((48, 48)), lambda p: p.resize((160, 160)),
        lambda p: p.point(lambda v: min(255, int(v * 1.15))),
    ]  # fmt: skip
    copies = [change(p) for p in originals[:10] for change in changes]
    found = find_near_duplicates(likeness([*originals, *copies]), rows(70))
    assert found[:30] == [None] * 30
    assert [match and match.index for match in found[30:]] == [n // 4 for n in range(40)]
    mirrored = [p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in originals[:10]]
    assert find_near_duplicates(likeness([*originals, *mirrored]), rows(40)) == [None] * 40


def test_a_hash_alone_makes_no_duplicate():
    red, green = (Image.new("RGB", (64, 64), color) for color in ("red", "green"))
    same_hash = likeness([red, green])
    assert same_hash.hashes[0] == same_hash.hashes[1]
    assert find_near_duplicates(same_hash, rows(2)) == [None, None]
    thumbnails = np.random.default_rng(0).integers(60, 63, (60, 8, 8, 3), np.uint8)
    assert find_near_duplicates(DuplicateCriteria(np.zeros(60, np.uint64), thumbnails, 6), rows(60)) == [None] * 60


def test_thumbnails_agree_whatever_the_brightness_contrast_and_tint():
    rng = np.random.default_rng(0)
    one, other = rng.integers(60, 120, (2, 8, 8, 3)).astype(np.uint8)
    assert correlation(one, (one * 1.5 + np.array([3, 40, 10])).astype(np.uint8)) > 0.99
    assert abs(correlation(one, other)) < 0.4 and correlation(one, 255 - one) < -0.99


def test_equal_ones_name_the_first():
    assert [m and m.index for m in find_exact_duplicates(["a", "b", "a", "c", "b", "a"])] == [None, None, 0, None, 1, 0]


def test_chains_do_not_pull_unlike_images_together(monkeypatch):
    """0-10-20-...-80 degrees, near within 15: every second stays, and no two that stay are near."""
    import lhrs.curate.duplicates as module

    angles = np.radians(np.arange(0, 90, 10))
    embeddings = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    about = DuplicateCriteria(
        np.zeros(9, np.uint64), np.zeros((9, 8, 8, 3), np.uint8), -1, embeddings, float(np.cos(0.26))
    )
    whole = find_near_duplicates(about, rows(9))
    assert [match and match.index for match in whole] == [None, 0, None, 2, None, 4, None, 6, None]
    assert whole[1].similarity == pytest.approx(np.cos(angles[1]), abs=1e-4)
    for block in (1, 2, 4):
        monkeypatch.setattr(module, "_BLOCK", block)
        monkeypatch.setattr(module, "_BASE", 2)
        assert [match and match.index for match in find_near_duplicates(about, rows(9))] == [
            m and m.index for m in whole
        ]


def test_chains_of_hashes_do_not_either():
    hashes = np.array([(1 << 6 * n) - 1 for n in range(5)], np.uint64)
    thumbnails = np.random.default_rng(0).integers(0, 255, (1, 8, 8, 3), np.uint8).repeat(5, 0)
    found = find_near_duplicates(DuplicateCriteria(hashes, thumbnails, 6), rows(5))
    assert [match and (match.index, match.bits) for match in found] == [None, (0, 6), None, (2, 6), None]
    sets = find_near_duplicates(DuplicateCriteria(hashes, thumbnails, 6), np.array([[0, 0], [0, 1], [0, 2], [1, 3]]))
    assert [match and (match.index, match.bits) for match in sets] == [None, (0, 6), None, (2, 6)]


def test_embeddings_find_exactly_what_comparing_all_finds():
    rng = np.random.default_rng(0)
    embeddings = unit(rng.normal(size=(300, 8)))
    found = find_near_duplicates(
        DuplicateCriteria(np.zeros(300, np.uint64), np.zeros((300, 8, 8, 3), np.uint8), -1, embeddings, 0.8), rows(300)
    )
    stays = []
    for n in range(300):
        near = [k for k in stays if embeddings[k] @ embeddings[n] >= 0.8]
        if near:
            assert found[n].index == max(near, key=lambda k: embeddings[k] @ embeddings[n])
        else:
            assert found[n] is None
            stays.append(n)
    assert 50 < len(stays) < 290


def test_sets_are_near_if_all_their_images_are():
    before, after, other = scene(0), scene(1), scene(2)
    pictures = [before, after, reencoded(before, 50), reencoded(after, 50), other]
    found = find_near_duplicates(likeness(pictures), np.array([[0, 1], [2, 3], [2, 4], [1, 0]]))
    assert [match and match.index for match in found] == [None, 0, None, None]


def test_most_similar_of_nothing_is_nothing():
    where, best = most_similar(unit(np.ones((2, 1, 4))), np.empty((0, 1, 4), np.float32))
    assert best.tolist() == [-1, -1] and len(where) == 2


def test_leaks_are_found_by_hash_and_by_embedding():
    pictures = [scene(0), scene(1), scene(2), reencoded(scene(1), 60), scene(5), scene(6)]
    found = find_leaks(likeness(pictures), np.array([0, 1, 2]), np.array([4, 3, 5]))
    assert [match and match.index for match in found] == [None, 1, None] and found[1].bits is not None
    embeddings = unit(np.random.default_rng(0).normal(size=(6, 16)))
    embeddings[5] = embeddings[2]
    more = likeness(pictures, embeddings=embeddings, similarity=0.99)
    found = find_leaks(more, np.array([0, 1, 2]), np.array([4, 3, 5]))
    assert [match and match.index for match in found] == [None, 1, 2] and found[2].similarity == 1.0


def test_the_same_ground_is_found_and_neighbours_are_not():
    import shapely

    grid = [shapely.to_wkb(shapely.box(x, 0, x + 1.001, 1)) for x in range(4)]
    test = [shapely.to_wkb(shapely.box(7, 7, 8, 8)), shapely.to_wkb(shapely.box(1.5, 0.5, 2.005, 3))]
    assert find_overlaps([*grid, None], test) == [None, 1, None, None, None]
    assert find_overlaps(grid, []) == [None] * 4

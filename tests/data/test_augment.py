"""Augmentation: eight symmetries, crops that know where they come from, draws from the given generator alone."""

import random
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhrs.data.augment import D4, random_erasing, sample_crop, sample_d4, seeded_global_rng
from lhrs.downstream.detect.data import transform_boxes

EIGHT = [D4(*flags) for flags in product((False, True), repeat=3)]


def test_the_eight_symmetries_are_those_of_rot90_and_flip():
    image = torch.arange(3 * 4 * 5).view(3, 4, 5)
    ours = {tuple(d4.apply(image).flatten().tolist()) + tuple(d4.apply(image).shape) for d4 in EIGHT}
    turned = [torch.rot90(flipped, k, (1, 2)) for flipped in (image, image.flip(2)) for k in range(4)]
    assert ours == {tuple(one.flatten().tolist()) + tuple(one.shape) for one in turned} and len(ours) == 8


@pytest.mark.parametrize(("all_eight", "wanted"), [(True, set(EIGHT)), (False, {D4(), D4(flip_x=True)})])
def test_every_symmetry_is_sampled(all_eight, wanted):
    rng = np.random.default_rng(0)
    assert {sample_d4(rng, all_eight) for _ in range(200)} == wanted


@pytest.mark.parametrize("d4", EIGHT)
def test_boxes_go_where_their_pixels_go(d4):
    image = torch.zeros(1, 40, 60)
    image[:, 5:12, 30:50] = 1
    moved = d4.apply(image)[0]
    ys, xs = moved.nonzero().T
    wanted = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
    horizontal = transform_boxes(torch.tensor([[30.0, 5, 50, 12]]), (60, 40), d4)
    torch.testing.assert_close(horizontal, torch.tensor([wanted]).float(), atol=1e-4, rtol=0)
    oriented = transform_boxes(torch.tensor([[40.0, 8.5, 20, 7, 0]]), (60, 40), d4)[0]
    center = torch.tensor([(wanted[0] + wanted[2]) / 2, (wanted[1] + wanted[3]) / 2])
    torch.testing.assert_close(oriented[:2], center, atol=1e-4, rtol=0)
    assert oriented[2] == 20 and oriented[3] == 7


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999), height=st.integers(1, 90), width=st.integers(1, 90))
def test_crops_lie_inside_and_know_their_pixels(seed, height, width):
    image = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    crop = sample_crop(np.random.default_rng(seed), height, width, (0.2, 1.0))
    assert crop == sample_crop(np.random.default_rng(seed), height, width, (0.2, 1.0))
    part = crop.apply(image)
    rows, columns = (crop.width, crop.height) if crop.d4.transpose else (crop.height, crop.width)
    assert part.shape == (2, rows, columns)
    if rows == columns:
        x, y = crop.centers(rows)[..., 0], crop.centers(rows)[..., 1]
        np.testing.assert_allclose(part[1] + 0.5, x, atol=1e-3)
        np.testing.assert_allclose(part[0] + 0.5, y, atol=1e-3)


def test_global_randomness_is_restored_and_erasing_follows_its_generator():
    random.seed(1)
    before = random.getstate()
    with seeded_global_rng(np.random.default_rng(0)):
        first = random.random()
    with seeded_global_rng(np.random.default_rng(0)):
        assert random.random() == first
    assert random.getstate() == before
    pixels = torch.zeros(2, 20, 20)
    one, two = (random_erasing(pixels, np.random.default_rng(3), 1.0) for _ in range(2))
    assert torch.equal(one, two) and one.any() and not pixels.any()
    assert random_erasing(pixels, np.random.default_rng(3), 0.0) is pixels

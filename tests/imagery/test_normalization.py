"""One normalization for every network: the maximum of each kind of file, statistics of valid pixels, one input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lhrs.errors import DataError
from lhrs.imagery.normalization import Normalization


def samples(*values):
    return [(np.asarray(x), None, f"image{n}.tif") for n, x in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "max_value"),
    [
        (np.full((3, 4, 4), 200, np.uint8), 255),
        (np.full((3, 4, 4), 3000, np.uint16), 10_000),
        (np.full((3, 4, 4), 3000, np.int16), 10_000),
        (np.linspace(0, 1, 48, dtype=np.float32).reshape(3, 4, 4), 1),
        (np.linspace(0, 1.3, 48, dtype=np.float32).reshape(3, 4, 4), 1),  # clouds
        (np.linspace(-25, 3, 48, dtype=np.float32).reshape(3, 4, 4), 1),  # decibels
        (np.linspace(270, 310, 48, dtype=np.float32).reshape(3, 4, 4), 1),  # kelvins
        (np.linspace(0, 8000, 48, dtype=np.float32).reshape(3, 4, 4), 10_000),  # reflectance saved as floats
        (np.arange(48, dtype=np.float32).reshape(3, 4, 4), 255),  # 8 bits saved as floats
    ],
)
def test_each_kind_of_file_has_its_maximum(values, max_value):
    assert Normalization.fit(samples(values)).max_value == max_value


@pytest.mark.parametrize("clip", [False, True])
def test_reflectance_gives_the_same_input_as_integers_and_as_floats(clip):
    integers = np.random.default_rng(0).integers(0, 9000, (4, 32, 32)).astype(np.uint16)
    floats = (integers / 10_000).astype(np.float32)
    one, other = (Normalization.fit(samples(x), clip=clip) for x in (integers, floats))
    assert min(other.std) > 0.1  # not a ten-thousandth
    np.testing.assert_allclose(one(integers), other(floats), atol=1e-4)


def test_bands_have_mean_0_and_deviation_1_and_what_is_invalid_is_0():
    values = np.random.default_rng(0).normal(0.3, 0.1, (3, 50, 50)).astype(np.float32)
    valid = np.ones(values.shape, bool)
    valid[:, :20] = False
    values[:, :20] = -9999
    values[1, 30, 30] = np.nan
    fitted = Normalization.fit([(values, valid, "a.tif")])
    seen = fitted(values, valid)
    assert (seen[:, :20] == 0).all() and seen[1, 30, 30] == 0 and np.isfinite(seen).all()
    np.testing.assert_allclose(seen[:, 20:].mean((1, 2)), 0, atol=0.01)
    np.testing.assert_allclose(seen[:, 20:].std((1, 2)), 1, atol=0.01)


@settings(deadline=None, max_examples=50)
@given(
    values=arrays(np.uint16, (2, 6, 7), elements=st.integers(0, 20_000)),
    valid=arrays(bool, (2, 6, 7)),
    fill=st.integers(0, 65_535),
)
def test_what_is_under_a_mask_changes_nothing(values, valid, fill):
    valid[:, 0, 0] = True
    other = np.where(valid, values, fill).astype(np.uint16)
    one, two = (Normalization.fit([(x, valid, "a.tif")]) for x in (values, other))
    assert one == two
    np.testing.assert_array_equal(one(values, valid), two(other, valid))
    again = Normalization.model_validate_json(one.model_dump_json())
    assert again == one
    np.testing.assert_array_equal(again(values, valid), one(values, valid))


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(1, 1000), seed=st.integers(0, 99))
def test_the_unit_of_the_values_does_not_matter(factor, seed):
    values = np.random.default_rng(seed).uniform(0, 1, (3, 8, 8)).astype(np.float32)
    one, two = (
        Normalization.fit(samples(values), max_value=1),
        Normalization.fit(samples(values * factor), None, factor),
    )
    np.testing.assert_allclose(one(values), two(values * np.float32(factor)), atol=1e-3)


def test_files_of_another_kind_are_refused():
    eight, sixteen = np.full((3, 4, 4), 90, np.uint8), np.full((3, 4, 4), 900, np.uint16)
    unit = np.linspace(0, 0.9, 48, dtype=np.float32).reshape(3, 4, 4)
    fits = {name: Normalization.fit(samples(x)) for name, x in (("8", eight), ("16", sixteen), ("unit", unit))}
    for name, values, why in (
        ("8", sixteen, "values of uint16, the training images have 8 bits"),
        ("16", eight, "values of uint8, the training images have more than 8 bits"),
        ("16", unit, "floats of 0-1, the training images have integers up to 10000"),
        ("unit", sixteen, "integers up to 900, the training images have floats of 0-1"),
        ("8", eight[:2], "has 2 bands, 3 are needed"),
    ):
        with pytest.raises(DataError, match=why):
            fits[name].check(values, "a.tif")
    fits["16"].check(sixteen.astype(np.float32), "a.tif")  # the same values, as a warp with NaN writes them
    fits["16"].check(sixteen.astype(np.int32), "a.tif")


def test_values_that_augmentation_would_clip_are_refused():
    decibels = np.random.default_rng(0).normal(-12, 3, (2, 16, 16)).astype(np.float32)
    with pytest.raises(DataError, match=r"100% of the values of image0.tif .* outside of 0 to 1: set data.max_value"):
        Normalization.fit(samples(decibels), clip=True)
    with pytest.raises(DataError, match="no data in one of their bands"):
        Normalization.fit(samples(np.full((2, 4, 4), np.nan, np.float32)))
    with pytest.raises(DataError, match=r"image1\.tif has 2 bands, others have 3"):
        Normalization.fit(samples(np.ones((3, 4, 4), np.uint8), np.ones((2, 4, 4), np.uint8)))

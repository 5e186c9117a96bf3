import numpy as np
import pytest

from lhrs.imagery.rendering import choose_bands, choose_scaling, data_mask

GRAY_AND_UNDEFINED = ["gray", *["undefined"] * 20]


@pytest.mark.parametrize(
    ("count", "bands"),
    [
        *[(1, [1, 1, 1]), (2, [1, 2, 1]), (3, [1, 2, 3]), (4, [1, 2, 3]), (6, [3, 2, 1]), (8, [5, 3, 2])],
        *[(10, [3, 2, 1]), (12, [4, 3, 2]), (13, [4, 3, 2]), (9, [1, 2, 3]), (21, [1, 2, 3])],
    ],
)
def test_undeclared_bands_follow_the_usual_order_for_their_count(count: int, bands: list[int]) -> None:
    assert choose_bands(GRAY_AND_UNDEFINED[:count], [None] * count)[0] == bands


def test_declared_colors_win_over_names_and_count() -> None:
    colors = ["blue", "green", "red", "undefined"]
    assert choose_bands(colors, ["red", "green", "blue", "nir"]) == ([3, 2, 1], "declared colors")


@pytest.mark.parametrize(
    ("names", "bands"),
    [
        (["B02", "B03", "B04", "B08"], [3, 2, 1]),
        (["B8", "B4", "B3", "B2"], [2, 3, 4]),
        (["SR_B2", "SR_B3", "SR_B4"], [3, 2, 1]),
        (["coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir"], [6, 4, 2]),
        (["Coastal Blue (430 nm)", "Blue (490 nm)", "Green (560 nm)", "Red edge (705 nm)", "Red (665 nm)"], [5, 3, 2]),
        (["B20", "B30", "B40"], [1, 2, 3]),
    ],
)
def test_band_names_tell_red_green_and_blue(names: list[str], bands: list[int]) -> None:
    assert choose_bands(GRAY_AND_UNDEFINED[: len(names)], names)[0] == bands


def test_alpha_is_no_band_to_look_at() -> None:
    assert choose_bands(["gray", "alpha"], [None] * 2)[0] == [1, 1, 1]
    assert choose_bands(["alpha", "undefined", "undefined", "undefined"], [None] * 4)[0] == [2, 3, 4]


def to_uint8(values: np.ndarray, mask: np.ndarray, per_band: bool = False) -> tuple[np.ndarray, str]:
    scaling = choose_scaling(values, mask, per_band)
    return scaling.apply(values), scaling.description


def everywhere(values: np.ndarray) -> np.ndarray:
    return np.ones(values.shape, bool)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.float32, np.float64])
def test_other_data_is_stretched_between_its_own_percentiles(dtype: type) -> None:
    values = np.linspace(-100 if np.dtype(dtype).kind != "u" else 0, 100, 1001).astype(dtype).reshape(1, 7, 143)
    pixels, scaling = to_uint8(values, everywhere(values))
    assert scaling == "2-98 percentile of all bands"
    assert (pixels == 0).mean() == pytest.approx(0.02, abs=0.01)
    assert (pixels == 255).mean() == pytest.approx(0.02, abs=0.01)
    assert (np.diff(pixels.ravel().astype(int)) >= 0).all()


def test_bands_are_stretched_together_and_each_by_itself_when_asked() -> None:
    ramp = np.linspace(0, 100, 100).reshape(1, 10, 10)
    values = np.concatenate([ramp, 3 * ramp])
    together, words = to_uint8(values, everywhere(values))
    assert words == "2-98 percentile of all bands"
    assert together[1].mean() > 2 * together[0].mean(), "the color of the whole is kept"
    alone, words = to_uint8(values, everywhere(values), per_band=True)
    assert words == "2-98 percentile of each band"
    np.testing.assert_array_equal(alone[0], alone[1])


def test_a_flat_band_is_mid_gray_and_a_rare_value_still_shows() -> None:
    flat = np.full((1, 10, 10), 7.5)
    assert (to_uint8(flat, everywhere(flat))[0] == 128).all()
    flat[0, 0, 0] = 9
    pixels, _ = to_uint8(flat, everywhere(flat))
    assert pixels[0, 0, 0] == 255 and pixels[0, 5, 5] == 0


def test_missing_values_do_not_move_the_stretch() -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 10, 10)
    expected, _ = to_uint8(values, everywhere(values))
    spoiled, mask = values.copy(), everywhere(values)
    spoiled[0, 4], mask[0, 4] = [np.nan, np.inf, -np.inf, 3e38, -3e38] * 2, False
    reference = np.delete(values, 4, 1)
    pixels, _ = to_uint8(spoiled, mask)
    np.testing.assert_array_equal(np.delete(pixels, 4, 1), to_uint8(reference, everywhere(reference))[0])
    assert np.abs(pixels.astype(int) - expected)[mask].max() < 10


def test_eight_bits_stay_as_they_are_except_class_codes() -> None:
    dark = np.full((1, 4, 4), 20, np.uint8)
    assert (to_uint8(dark, everywhere(dark))[0] == 20).all()
    codes = np.array([[[0, 1, 2]]], np.uint8)
    pixels, scaling = to_uint8(codes, everywhere(codes))
    assert pixels.ravel().tolist() == [0, 128, 255]
    assert scaling == "class codes 0-2 spread over black to white"
    night = np.full((3, 4, 4), 2, np.uint8)
    assert (to_uint8(night, everywhere(night))[0] == 2).all()


def test_usual_fill_values_are_missing_in_signed_data_only() -> None:
    floats = np.array([1, np.nan, np.inf, -9999, -32767, -3.4e38, 1e20], np.float32)
    assert data_mask(floats).tolist() == [True, False, False, False, False, False, True]
    assert data_mask(np.array([-9999, -32768, -1, 5], np.int16)).tolist() == [False, False, True, True]
    assert data_mask(np.array([0, 65535], np.uint16)).all()

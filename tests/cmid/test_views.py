"""Views know where they come from, pairs show the same place, and chance depends on nothing but seed and sample."""

import io
import tarfile

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lhrs.cmid.geometry import match_patches
from lhrs.cmid.masking import fill_with_mean, sample_mask, to_pixels
from lhrs.cmid.two_views import TwoViewDataset, augment_and_normalize, collate, resize
from lhrs.data.augment import (
    COLOR_JITTER_FIELDS,
    Crop,
    apply_color_jitter,
    identity_jitter,
    sample_color_jitter,
    sample_crop,
)
from lhrs.data.unlabeled import UnlabeledWindows
from lhrs.errors import DataError


def coordinate_image(height, width):
    """Each pixel holds the x and y of its centre."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y])


@given(st.integers(0, 2**32 - 1), st.integers(40, 300), st.integers(40, 300), st.sampled_from([2, 4, 7]))
@settings(max_examples=60, deadline=None)
def test_every_cells_source_pixel_is_recovered(seed, height, width, grid):
    crop = sample_crop(np.random.default_rng(seed), height, width)
    size = 8 * grid
    view = resize(coordinate_image(height, width), crop, size)
    seen = view.unflatten(1, (grid, 8)).unflatten(3, (grid, 8)).mean((2, 4)).permute(1, 2, 0)
    # Antialiasing cannot look beyond the crop, so the outermost cells are off by a part of a view's pixel.
    tolerance = max(crop.height, crop.width) / size
    torch.testing.assert_close(seen, torch.from_numpy(crop.centers(grid)), atol=tolerance, rtol=0)
    inner = torch.from_numpy(crop.centers(grid))[1:-1, 1:-1]
    torch.testing.assert_close(seen[1:-1, 1:-1], inner, atol=0.02 * tolerance + 1e-3, rtol=0)


def test_pairs_lie_within_eight_pixels_at_224():
    """The original's pairs were 38 pixels apart in the median."""
    rng = np.random.default_rng(0)
    apart = []
    for _ in range(400):
        one, two = (sample_crop(rng, 224, 224) for _ in range(2))
        a, b = (torch.from_numpy(c.centers(7).reshape(1, 49, 2)) for c in (one, two))
        pairs, close = match_patches(a, b, 20, 16.0)
        # Measured on the coordinate image, not on what was matched.
        found = [resize(coordinate_image(224, 224), c, 224).unflatten(1, (7, 32)).unflatten(3, (7, 32)).mean((2, 4))
                 .flatten(1).T for c in (one, two)]  # fmt: skip
        distance = (found[0][pairs[0, :, 0]] - found[1][pairs[0, :, 1]]).norm(dim=1)
        apart += distance[close[0] > 0].tolist()
    assert np.median(apart) <= 8 and max(apart) <= 16 + 4


def test_crops_that_hardly_overlap_have_few_pairs():
    one, two = Crop(0, 0, 100, 100), Crop(90, 90, 100, 100)
    a, b = (torch.from_numpy(c.centers(7).reshape(1, 49, 2)) for c in (one, two))
    _, close = match_patches(a, b, 20, 8.0)
    assert close.sum() <= 2
    assert match_patches(a, a, 20, 8.0)[1].sum() == 20


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_three_fifths_of_the_cells_are_hidden(seed):
    mask = sample_mask(np.random.default_rng(seed), 7, 0.6)
    assert mask.sum() == 30
    pixels = torch.randn(1, 4, 56, 56)
    hidden = to_pixels(torch.from_numpy(mask)[None], (56, 56))
    shown = fill_with_mean(pixels, hidden)
    torch.testing.assert_close(torch.where(hidden > 0, pixels, shown), pixels)
    torch.testing.assert_close(
        shown[0, :, hidden[0, 0] > 0], pixels.mean((2, 3)).T.expand(4, -1)[:, :1].expand(4, 30 * 64)
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for n in range(6):
        Image.fromarray(rng.integers(0, 256, (40 + n, 50, 3), np.uint8)).save(folder / f"{n}.png")
    return folder


def test_a_view_does_not_depend_on_its_batch_and_changes_with_the_epoch(pictures):
    views = TwoViewDataset(UnlabeledWindows([pictures], 64), 32, 4, mask_grid=4, seed=3)
    mean, std = torch.zeros(3), torch.ones(3)

    def batch(keys):
        made = collate([views[key] for key in keys], 4, 8.0)
        return augment_and_normalize(made["views"], made["color_jitter"], 255.0, mean, std), made

    all_pixels, made = batch([(0, n) for n in range(6)])
    alone, single = batch([(0, 4)])
    torch.testing.assert_close(all_pixels[[4, 10]], alone)
    torch.testing.assert_close(made["mask"][[4, 10]], single["mask"])
    assert (batch([(1, 4)])[0] != alone).any()
    # Indices count cells over both views of the whole batch: first views, then second ones.
    assert ((made["pairs"][:6, :, 0] < 6 * 16) & (made["pairs"][:6, :, 1] >= 6 * 16)).all()
    assert ((made["pairs"][6:, :, 0] >= 6 * 16) & (made["pairs"][6:, :, 1] < 6 * 16)).all()


def test_colors_change_as_drawn():
    pixels = torch.rand(3, 3, 16, 16)
    same = apply_color_jitter(pixels.clone(), torch.from_numpy(np.stack([identity_jitter()] * 3)))
    torch.testing.assert_close(same, pixels)
    gray = identity_jitter()
    gray[4] = 1
    out = apply_color_jitter(pixels.clone(), torch.from_numpy(np.stack([gray] * 3)))
    luma = (pixels * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(out, luma.expand(-1, 3, -1, -1), atol=1e-5, rtol=0)
    solar = identity_jitter()
    solar[7] = 1
    out = apply_color_jitter(pixels.clone(), torch.from_numpy(np.stack([solar] * 3)))
    torch.testing.assert_close(out, torch.where(pixels > 0.5, 1 - pixels, pixels))
    noisy = identity_jitter()
    noisy[6], noisy[8] = 0.1, 12345
    flat = torch.full((2, 3, 64, 64), 0.5)
    out = apply_color_jitter(flat.clone(), torch.from_numpy(np.stack([noisy, noisy])))
    assert (out - flat).std().item() == pytest.approx(0.1, rel=0.05)
    many = np.stack([sample_color_jitter(np.random.default_rng(n)) for n in range(2000)])
    assert many[:, 4].mean() == pytest.approx(0.2, abs=0.03) and (many[:, 6] > 0).mean() == pytest.approx(0.6, abs=0.04)


def test_large_rasters_are_read_in_windows_of_all_bands(tmp_path):
    values = np.arange(13 * 100 * 150, dtype=np.uint16).reshape(13, 100, 150)
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=100, width=150, count=13, dtype="uint16") as out:
        out.write(values)
    windows = UnlabeledWindows([tmp_path], 40)
    assert len(windows) == 2 * 3 and windows.in_chans == 13
    seen = np.zeros((100, 150), bool)
    for epoch in range(40):
        for n in range(len(windows)):
            window = windows[epoch, n]
            assert window.shape == (13, 40, 40)
            top, left = divmod(int(window[0, 0, 0]), 150)
            np.testing.assert_array_equal(window, values[:, top : top + 40, left : left + 40])
            seen[top : top + 40, left : left + 40] = True
    assert seen.mean() > 0.9
    assert UnlabeledWindows([tmp_path], 40, bands=[4, 3, 2])[0, 0].shape == (3, 40, 40)
    with pytest.raises(DataError, match=r"a\.tif"):
        UnlabeledWindows([tmp_path], 40, bands=[14])


def test_shards_are_read_at_random(pictures, tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for file in sorted(pictures.iterdir()):
            archive.add(file, f"sample/{file.name}")
            info = tarfile.TarInfo(f"sample/{file.stem}.json")
            info.size = 2
            archive.addfile(info, io.BytesIO(b"{}"))
    shard, folder = UnlabeledWindows([tmp_path / "s.tar"], 64), UnlabeledWindows([pictures], 64)
    assert len(shard) == len(folder) == 6
    for n in (5, 0, 3):
        np.testing.assert_array_equal(shard[0, n], folder[0, n])


def test_wrong_images_are_one_line(tmp_path, pictures):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    (tmp_path / "mixed").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "mixed/a.png")
    with rasterio.open(tmp_path / "mixed/b.tif", "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8") as out:
        out.write(np.zeros((1, 8, 8), np.uint8))
    for path, why in (("broken.png", "damaged"), ("broken.tar", "tar file"), ("nothing", "does not exist")):
        with pytest.raises(DataError, match=why) as error:
            UnlabeledWindows([tmp_path / path], 64)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="bands"):
        UnlabeledWindows([tmp_path / "mixed"], 64)[0, 1]


def test_strength_scales_colors_and_leaves_blur_and_noise():
    colors = [at for at, name in enumerate(COLOR_JITTER_FIELDS) if name not in ("sigma", "noise", "seed")]
    none, weak, full = (
        np.stack([sample_color_jitter(np.random.default_rng(n), s) for n in range(2000)]) for s in (0.0, 0.3, 1.0)
    )
    assert (none[:, colors] == identity_jitter()[colors]).all()
    for field, share in (("gray", 0.2), ("solarize", 0.2)):
        at = COLOR_JITTER_FIELDS.index(field)
        assert abs((weak[:, at] > 0).mean() - 0.3 * share) < 0.03 and abs((full[:, at] > 0).mean() - share) < 0.04
    assert np.ptp(weak[:, 0]) < 0.25 < np.ptp(full[:, 0])
    for field in ("sigma", "noise"):
        at = COLOR_JITTER_FIELDS.index(field)
        assert (none[:, at] == full[:, at]).all() and (weak[:, at] == full[:, at]).all()


def test_noise_disturbs_both_views_each_by_its_own_draw_and_nothing_else(tmp_path):
    Image.fromarray(np.full((64, 64, 3), 100, np.uint8)).save(tmp_path / "flat.png")
    windows = UnlabeledWindows([tmp_path], 64)
    plain, noisy = (
        TwoViewDataset(windows, 32, 4, mask_grid=4, scale=(0.2, 0.3), seed=3, noise_std=most) for most in (0.0, 8.0)
    )
    keys = [(epoch, 0) for epoch in range(200)]
    spread = torch.stack([noisy[key]["views"].float().std((1, 2, 3)) for key in keys])
    # Uniform to 8: a view of a quarter of the window is enlarged, which smooths, so the mean is a little under 4.
    assert 1 < spread[:, 0].mean() < 4 and 1 < spread[:, 1].mean() < 4 and spread.max() < 8
    assert np.corrcoef(spread.T)[0, 1] == pytest.approx(0, abs=0.25)
    one, two = plain[0, 0], noisy[0, 0]
    assert (one["views"] == 100).all() and (noisy[0, 0]["views"] == two["views"]).all()
    for name in ("masks", "centers", "color_jitter"):
        torch.testing.assert_close(one[name], two[name])

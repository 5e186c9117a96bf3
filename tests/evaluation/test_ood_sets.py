"""The sets of out-of-distribution images are drawn and converted the same way each time."""

from pathlib import Path

import numpy as np
from dev.ood_sets import DEBIAN, MAX_SIDE, NPM, PICKS, average_hash, draw, flat, package_images, radar, to_rgb
from PIL import Image


def test_every_package_has_a_version():
    for picks in PICKS.values():
        for pick in picks:
            assert pick.package in DEBIAN or pick.package in NPM


def test_transparent_parts_become_white_and_large_images_small():
    image = Image.new("RGBA", (3000, 300), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 1500, 300))
    result = to_rgb(image)
    assert result.mode == "RGB" and result.size[0] == MAX_SIDE
    assert result.getpixel((10, 10)) == (255, 0, 0)
    assert result.getpixel((MAX_SIDE - 10, 10)) == (255, 255, 255)


def test_draw_depends_on_the_name_alone():
    files = [Path(f"{number:03d}.png") for number in range(100)]
    assert draw(files, 10, "a") == draw(files, 10, "a")
    assert draw(files, 10, "a") != draw(files, 10, "b")
    assert draw(files, None, "a") == files


def test_copies_in_another_size_are_dropped(tmp_path):
    folder = tmp_path / "mate-backgrounds/usr/share/backgrounds/mate/nature"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(values).resize((640, 640), Image.Resampling.BICUBIC)
    picture.save(folder / "a.jpg", quality=95)
    picture.resize((320, 320)).save(folder / "b.jpg", quality=95)
    picture.rotate(90).save(folder / "c.jpg", quality=95)
    picks = [pick for pick in PICKS["photos"] if pick.package == "mate-backgrounds"]
    assert [name.rsplit("_", 1)[1] for name, _ in package_images(picks, tmp_path)] == ["a", "c"]


def test_hash_ignores_brightness():
    values = np.random.default_rng(0).integers(0, 120, (64, 64), dtype=np.uint8)
    assert np.array_equal(average_hash(Image.fromarray(values)), average_hash(Image.fromarray(values + 100)))


def test_flat_images_have_unique_names():
    names = [name for name, _ in flat()]
    assert len(names) == len(set(names)) == 50


def test_radar_images_are_whole_and_windows(shared_data):
    images = dict(radar(shared_data))
    assert {image.size for image in images.values()} >= {(224, 224), (112, 112)}

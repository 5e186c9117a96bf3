"""Sensors: bands by name, views with fixed limits, the same in every window."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from lhrs.errors import ConfigError
from lhrs.imagery.scene import open_scene
from lhrs.imagery.sensors import detect_sensors, find_sensor, sensors

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def write(path, values, names=None):
    bands, height, width = values.shape
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=values.dtype,
                       crs="EPSG:32632", transform=from_origin(5e5, 5e6, 10, 10)) as file:  # fmt: skip
        file.write(values)
        for n, name in enumerate(names or (), 1):
            file.set_band_description(n, name)
    return path


def test_every_composite_of_every_sensor_is_whole():
    for sensor in sensors().values():
        for name in sensor.composites:
            view = sensor.composite(name)
            assert len(view.bands) == (2 if view.formula == "difference" else 3), (sensor.name, name)
            assert view.limits is None or view.limits[0] < view.limits[1]


def test_names_tell_the_sensor_and_numbers_of_bands_do_not():
    def detected(names, dtype):
        return [sensor.name for sensor in detect_sensors(names, dtype)]

    assert detected(S2, "uint16") == ["sentinel-2-l1c"]
    assert detected(["Red", "green", "BLUE", "nir"], "uint8") == ["naip"]
    assert detected(["blue", "green", "red", "nir"], "uint16") == ["planetscope-4"]
    assert detected(["blue", "green", "red", "nir"], "uint8") == []
    assert detected([None] * 13, "uint16") == []
    with pytest.raises(ConfigError, match="did you mean sentinel-2-l2a"):
        find_sensor("sentinel-2-l2")
    with pytest.raises(ConfigError, match="it has sar"):
        find_sensor("sentinel-1").composite("swir")


def test_views_show_what_they_say(tmp_path):
    values = np.arange(13, dtype=np.uint16)[:, None, None] * np.full((1, 8, 8), 250, np.uint16)
    path = write(tmp_path / "s2.tif", values, S2)
    pixels, _ = open_scene([path]).read()
    np.testing.assert_array_equal(pixels[0, 0], np.round(np.array([3, 2, 1]) * 250 / 3000 * 255))
    swir, _ = open_scene([path], composite="swir").read()
    np.testing.assert_array_equal(swir[0, 0], np.round(np.array([12, 7, 3]) * 250 / 4500 * 255))
    ndvi, _ = open_scene([path], composite="ndvi").read()
    assert (ndvi[0, 0] == round(((7 - 3) / (7 + 3) + 0.2) / 1.1 * 255)).all()


def test_radar_is_shown_in_decibels_and_nothing_where_there_is_no_echo(tmp_path):
    values = np.full((2, 4, 4), 0.01, np.float32)
    values[1] = 0.1
    values[0, 0, 0] = 0
    scene = open_scene([write(tmp_path / "s1.tif", values)], sensor="sentinel-1")
    pixels, share = scene.read()
    np.testing.assert_array_equal(pixels[1, 1], np.round(np.array([5, 15, 5]) / 25 * 255))
    assert (pixels[0, 0] == 0).all() and share == pytest.approx(15 / 16)


def test_radar_of_the_same_names_is_power_or_decibels_as_its_numbers_say(tmp_path):
    decibels = np.random.default_rng(0).normal(-12, 4, (2, 60, 60)).astype(np.float32)
    decibels[:, :50, :50] = 0  # a border that nobody declared, most of the file
    scene = open_scene([write(tmp_path / "db.tif", decibels, ("VV", "VH"))])
    pixels, share = scene.read()
    assert scene.scaling.description.startswith("sentinel-1-db") and share == 1
    power = 10 ** (decibels / 10)
    power[0, :5] = -1e-4  # noise that was taken away
    scene = open_scene([write(tmp_path / "power.tif", power, ("VV", "VH"))])
    assert scene.scaling.description.startswith("sentinel-1 ")
    np.testing.assert_allclose(scene.read()[0][50:].astype(int), pixels[50:], atol=1)


def test_what_names_do_not_tell_apart_numbers_do():
    """Sensors of the same bands and type are one of power, one of decibels: there is no third to guess."""
    for one in sensors().values():
        dtype = {"u": "uint8", "i": "uint16", "f": "float32", None: "float32"}[one.dtype]
        alike = detect_sensors([names[0] for names in one.bands], dtype)
        assert len(alike) == len({other.is_power for other in alike}), one.name


def test_an_unknown_sensor_is_stretched_once_over_the_scene(tmp_path):
    values = np.arange(4 * 64 * 64, dtype=np.float32).reshape(1, 64, 256).repeat(3, 0)
    scene = open_scene([write(tmp_path / "x.tif", values)])
    whole, _ = scene.read()
    part, _ = scene.read((64, 16, 32, 32))
    np.testing.assert_array_equal(part, whole[16:48, 64:96])

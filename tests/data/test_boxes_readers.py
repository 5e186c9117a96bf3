"""Boxes from DOTA, VOC, GeoJSON and masks: each format's own convention becomes xyxy in pixels."""

import json

import numpy as np
import pytest
from PIL import Image

from lhrs.data.dataset import detect_format, open_dataset
from lhrs.errors import DataError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(path)


def test_dota(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "images/P1.png")
        (tmp_path / split / "labelTxt").mkdir()
        (tmp_path / split / "labelTxt/P1.txt").write_text(
            "imagesource:GoogleEarth\ngsd:0.5\n10.0 20 30 10 40 30 20 40 plane 0\n1 1 2 1 2 2 1 2 small-vehicle 1\n"
        )
    assert detect_format(tmp_path) == "dota" and len(open_dataset(tmp_path)) == 2
    (sample,) = open_dataset(tmp_path, split="val")
    assert [(b.label, b.xyxy) for b in sample.boxes] == [("plane", (10, 10, 40, 40)), ("small-vehicle", (1, 1, 2, 2))]
    (tmp_path / "val/labelTxt/P1.txt").write_text("1 2 3 plane")
    with pytest.raises(DataError, match=r"P1\.txt:1: not eight numbers and a class"):
        open_dataset(tmp_path, split="val")[0]
    (tmp_path / "val/labelTxt/P2.txt").write_text("")
    with pytest.raises(DataError, match=r"P2\.txt has no image"):
        open_dataset(tmp_path)


def test_voc_counts_from_one(tmp_path):
    picture(tmp_path / "JPEGImages/7.jpg")
    (tmp_path / "Annotations").mkdir()
    thing = (
        "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object>"
    )
    (tmp_path / "Annotations/7.xml").write_text(
        f"<annotation><filename>7.jpg</filename>{thing.format('ship')}</annotation>"
    )
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/test.txt").write_text("7\n")
    assert detect_format(tmp_path) == "voc"
    (sample,) = open_dataset(tmp_path, split="test")
    assert sample.boxes[0].xyxy == (0, 1, 10, 20) and sample.boxes[0].label == "ship"
    assert sample.images == [str(tmp_path / "JPEGImages/7.jpg")]
    (tmp_path / "Annotations/7.xml").write_text("<annotation><object></annotation>")
    with pytest.raises(DataError, match=r"7\.xml is not VOC's XML"):
        open_dataset(tmp_path)[0]


def test_geojson_becomes_pixels(tmp_path):
    import rasterio

    transform = rasterio.transform.from_origin(500_000, 5_200_000, 2, 2)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=50, width=100, count=1, dtype="uint8", crs="EPSG:32632",
        transform=transform,
    ) as out:  # fmt: skip
        out.write(np.ones((1, 50, 100), np.uint8))
    from rasterio.warp import transform as warp

    corners = [(500_020, 5_199_980), (500_060, 5_199_980), (500_060, 5_199_960), (500_020, 5_199_960)]
    lon, lat = warp("EPSG:32632", "EPSG:4326", *zip(*corners, strict=True))
    ring = [list(p) for p in zip(lon, lat, strict=True)]
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    features = [
        {"type": "Feature", "properties": {"class": "roof"}, "geometry": {"type": "Polygon", "coordinates": [ring]}},
        {"type": "Feature", "properties": {}, "geometry": far},
        {"type": "Feature", "properties": {}, "geometry": None},
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert detect_format(tmp_path) == "geojson_boxes"
    (sample,) = open_dataset(tmp_path)
    (box,) = sample.boxes
    assert box.label == "roof" and box.xyxy == pytest.approx((10, 10, 30, 20), abs=1e-3)


@pytest.fixture
def drawn(tmp_path):
    """A function that writes shapes beside an image in UTM, and returns what is read."""
    import rasterio

    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=50, width=100, count=1, dtype="uint8", crs="EPSG:32632",
        transform=rasterio.transform.from_origin(500_000, 5_200_000, 2, 2),
    ) as out:  # fmt: skip
        out.write(np.ones((1, 50, 100), np.uint8))

    def read(*rings, **members):
        shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
        features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
        content = {"type": "FeatureCollection", "features": features, **members}
        (tmp_path / "a.geojson").write_text(json.dumps(content))
        return [box.xyxy for box in open_dataset(tmp_path)[0].boxes]

    return read


UTM_RING = [[500_020, 5_199_980], [500_060, 5_199_980], [500_060, 5_199_960], [500_020, 5_199_980]]


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:EPSG::32632", "EPSG:32632"])
def test_geojson_may_name_its_crs(drawn, name):
    crs = {"type": "name", "properties": {"name": name}}
    assert drawn(UTM_RING, crs=crs) == [pytest.approx((10, 10, 30, 20), abs=1e-3)]


def test_shapes_that_the_images_crs_cannot_hold_are_left_out(drawn):
    other_side = [[-171, 0], [-170, 0], [-170, 1], [-171, 0]]
    inside = [[9.0004, 46.953], [9.0008, 46.953], [9.0008, 46.9528], [9.0004, 46.953]]
    crs84 = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert len(drawn(other_side, inside)) == len(drawn(inside, other_side, crs=crs84)) == 1


@pytest.mark.parametrize(
    ("members", "line"),
    [
        ({}, r"a\.geojson: \[500020, 5199980\] is no longitude and latitude"),
        ({"crs": {"type": "name", "properties": {"name": "our site"}}}, r"a\.geojson: its member `crs` .*our site"),
        ({"crs": {"type": "link", "properties": {"href": "x"}}}, r"a\.geojson: its member `crs` is none"),
        ({"crs": "EPSG:32632"}, r"a\.geojson: its member `crs` is none"),
    ],
)
def test_geojson_of_an_unknown_crs_is_one_line(drawn, members, line):
    with pytest.raises(DataError, match=line) as error:
        drawn(UTM_RING, **members)
    assert "\n" not in str(error.value)


def test_masks_become_boxes_of_their_parts(tmp_path):
    picture(tmp_path / "tile/a.jpg")
    mask = np.full((80, 100), 2, np.uint8)
    mask[10:30, 5:25] = 0
    mask[50:70, 60:90] = 0
    mask[0:2, 0:2] = 1
    Image.fromarray(mask).save(tmp_path / "tile/a_mask.png")
    (tmp_path / "classes.json").write_text('["building", "car", "unlabeled"]')
    assert detect_format(tmp_path) == "mask_folder"
    (sample,) = open_dataset(tmp_path)
    assert [(b.label, b.xyxy) for b in sample.boxes] == [
        ("building", (5, 10, 25, 30)), ("building", (60, 50, 90, 70))]  # fmt: skip
    (tmp_path / "classes.json").write_text('["building"]')
    with pytest.raises(DataError, match=r"not one number of classes\.json per pixel: it has the number 1, not 0-0"):
        open_dataset(tmp_path)[0]


def write_placed(path, size=(100, 50), **profile):
    import rasterio

    with rasterio.open(
        path, "w", driver="GTiff", width=size[0], height=size[1], count=1, dtype="uint8", **profile
    ) as dataset:
        dataset.write(np.ones((1, size[1], size[0]), np.uint8))


def write_features(path, *rings, **properties):
    features = [
        {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        for ring in rings
    ]
    path.write_bytes(json.dumps({"type": "FeatureCollection", "features": features}).encode("utf-8-sig"))


RING = [[15.01, 46.99], [15.03, 46.99], [15.03, 46.98], [15.01, 46.99]]


@pytest.mark.parametrize("turn", [0, 360, -360])
def test_longitudes_are_counted_in_any_way(tmp_path, turn):
    import rasterio

    transform = rasterio.transform.from_origin(-75 % 360, -12, 0.001, 0.001)
    write_placed(tmp_path / "a.tif", crs="EPSG:4326", transform=transform)
    west = -75 + turn if abs(-75 + turn) <= 360 else -75
    ring = [[west + 0.01, -12.01], [west + 0.03, -12.01], [west + 0.03, -12.02], [west + 0.01, -12.01]]
    write_features(tmp_path / "a.GEOJSON", ring, label="roof")
    data = open_dataset(tmp_path)
    (box,) = data[0].boxes
    assert box.label == "roof" and box.xyxy == pytest.approx((10, 10, 30, 20), abs=1e-6)
    np.testing.assert_allclose(data.polygons(0)[0].points[:3], [[10, 10], [30, 10], [30, 20]], atol=1e-6)


def test_images_may_be_placed_by_control_points(tmp_path):
    from rasterio.control import GroundControlPoint

    gcps = [GroundControlPoint(row, column, 15 + column * 0.001, 47 - row * 0.001)
            for row in (0, 50) for column in (0, 100)]  # fmt: skip
    write_placed(tmp_path / "a.tif", crs="EPSG:4326", gcps=gcps)
    write_features(tmp_path / "a.geojson", RING)
    (box,) = open_dataset(tmp_path)[0].boxes
    assert box.xyxy == pytest.approx((10, 10, 30, 20), abs=0.01)


def test_what_geojson_cannot_place_is_counted(tmp_path):
    import rasterio

    write_placed(tmp_path / "a.tif", crs="EPSG:4326", transform=rasterio.transform.from_origin(15, 47, 0.001, 0.001))
    picture(tmp_path / "b.png")
    point = [[15.02, 46.98]] * 4
    far = [[x + 20, y] for x, y in RING]
    edge = [[14.99, 46.99], [15.03, 46.99], [15.03, 46.98], [14.99, 46.99]]
    write_features(tmp_path / "a.geojson", RING, point, far, edge)
    write_features(tmp_path / "osm.geojson", RING)
    data = open_dataset(tmp_path)
    assert [tuple(round(v, 3) for v in box.xyxy) for box in data[0].boxes] == [(10, 10, 30, 20), (0, 10, 30, 20)]
    assert data.polygons(0)[1].points.tolist()[0] == pytest.approx([0, 10], abs=1e-6)
    assert data.dropped.to_dict() == {
        "GeoJSON files without an image": 1, "features outside their image": 1, "features without area": 1,
        "images without a GeoJSON file": 1,
    }  # fmt: skip


def test_an_image_without_a_place_is_one_line(tmp_path):
    picture(tmp_path / "a.png")
    write_features(tmp_path / "a.geojson", RING)
    with pytest.raises(DataError, match=r"a\.png is not georeferenced, so the shapes of a\.geojson have no place"):
        open_dataset(tmp_path)[0]


def test_yolo_is_relative_to_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    assert open_dataset(tmp_path)[0].boxes[0].xyxy == (20, 37.5, 60, 62.5)

"""Tiles cover scenes, detections come back where they are, DOTA's files say what was found."""

import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image, ImageDraw
from torch import nn

from lhrs.boxes import polygon_iou_pairs
from lhrs.cli import main
from lhrs.data.augment import D4
from lhrs.data.dataset import open_dataset
from lhrs.data.datasets.coco_boxes import CocoBoxes
from lhrs.data.datasets.dota import Dota
from lhrs.downstream.detect.data import (
    DetectionDataset,
    detection_collate,
    ground_truth,
    read_window,
    to_detected,
    transform_boxes,
)
from lhrs.downstream.detect.dota_io import write_results
from lhrs.downstream.detect.rotated_boxes import obb_to_hbb, rotated_iou
from lhrs.downstream.detect.tiling import TILE_OVERLAP, TILE_SIZE, detect_tiled, merge_tiles, write_tiles
from lhrs.downstream.inputs import ImageInput
from lhrs.downstream.labeled_dataset import open_labeled
from lhrs.errors import DataError
from lhrs.imagery.band_stack import BandStack
from lhrs.imagery.normalization import Normalization
from lhrs.imagery.windows import make_windows
from lhrs.metrics.detection import Detections, mean_average_precision
from lhrs.metrics.iou import oriented_corners

BOXES = np.array([[40, 30, 30, 12, 0.5], [150, 60, 24, 20, -1.2], [95, 64, 20, 8, 1.4]])
LABELS = ["plane", "ship", "ship"]
PLAIN = ImageInput(Normalization(max_value=255, mean=(0,) * 3, std=(1,) * 3))


@pytest.fixture
def dota(tmp_path):
    """One image of 200 x 90 with three bright boxes, the last of them difficult."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labelTxt").mkdir()
    image = Image.new("RGB", (200, 90), (20, 40, 20))
    corners = oriented_corners(BOXES)
    for quad in corners:
        ImageDraw.Draw(image).polygon([tuple(p) for p in quad], fill=(250, 250, 250))
    image.save(tmp_path / "images/P1.png")
    lines = [
        f"{' '.join(f'{v:.3f}' for v in quad.ravel())} {label} {int(n == 2)}\n"
        for n, (quad, label) in enumerate(zip(corners, LABELS, strict=True))
    ]
    (tmp_path / "labelTxt/P1.txt").write_text("imagesource:GoogleEarth\ngsd:0.1\n" + "".join(lines))
    return tmp_path


def test_outlines_of_dota_are_its_quadrangles(dota):
    reader = Dota(dota)
    outlines = reader.polygons(0)
    assert [(o.label, o.difficult) for o in outlines] == [("plane", False), ("ship", False), ("ship", True)]
    np.testing.assert_allclose([o.points for o in outlines], oriented_corners(BOXES), atol=1e-3)
    np.testing.assert_allclose([b.xyxy for b in reader[0].boxes], obb_to_hbb(torch.tensor(BOXES)), atol=1e-3)
    (dota / "labelTxt/P1.txt").write_text("1 2 3 4 5 6 7 nan plane 0\n")
    with pytest.raises(DataError, match=r"P1.txt:1: a corner is not a finite number"):
        reader.polygons(0)


def test_outlines_of_coco_are_its_polygons(tmp_path):
    ring = [[10, 10, 20, 10, 15, 20], [30, 30, 31, 31]]
    annotation = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    rows = [
        {"segmentation": ring}, {"segmentation": []}, {}, {"segmentation": {"counts": [], "size": [2, 2]}},
        {"segmentation": ring, "iscrowd": 1},
    ]  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": n, **annotation, **row} for n, row in enumerate(rows)],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    first, *others = CocoBoxes(tmp_path / "a.json").polygons(0)
    assert first.points.tolist() == [[10, 10], [20, 10], [15, 20], [30, 30], [31, 31]]
    assert [o.points.tolist() for o in others] == [[[1, 2], [4, 2], [4, 6], [1, 6]]] * 3
    content["annotations"][0]["segmentation"] = [[1, 2, 3]]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="outline of 0 is broken"):
        CocoBoxes(tmp_path / "a.json").polygons(0)


@pytest.mark.parametrize("oriented", [True, False])
def test_boxes_follow_the_pixels_through_every_symmetry(dota, oriented):
    """Each box is bright in the middle and dark just outside its ends, whichever way the image was turned."""
    of = open_labeled("detect", dota)
    plain = DetectionDataset(of, PLAIN, 200, oriented)[0, 0]
    data = DetectionDataset(of, PLAIN, 200, oriented, augment=True, seed=3)
    seen = set()
    for epoch in range(40):
        sample = data[epoch, 0]
        again = data[epoch, 0]
        assert torch.equal(sample["pixels"], again["pixels"]) and torch.equal(sample["boxes"], again["boxes"])
        seen.add(sample["pixels"].numpy().tobytes())
        bright = sample["pixels"][0] > 0.5
        if not oriented:
            tight = sample["boxes"].round().int().tolist()
            assert all(bright[y1 : y2 + 1, x1 : x2 + 1].sum() > 100 for x1, y1, x2, y2 in tight)
            ys, xs = bright.nonzero().T
            covered = torch.zeros_like(bright)
            for x1, y1, x2, y2 in sample["boxes"].tolist():
                covered[math.floor(y1 - 1) : math.ceil(y2 + 1), math.floor(x1 - 1) : math.ceil(x2 + 1)] = True
            assert covered[ys, xs].all()
            continue
        assert (sample["boxes"][:, 2] >= sample["boxes"][:, 3]).all()
        for x, y, w, _, angle in sample["boxes"].tolist():
            ends = [(x + s * w * math.cos(angle), y + s * w * math.sin(angle)) for s in (0, -0.42, 0.42, -0.62, 0.62)]
            assert [bool(bright[int(v), int(u)]) for u, v in ends] == [True] * 3 + [False] * 2
    assert len(seen) == 8
    assert torch.equal(plain["labels"], torch.tensor([0, 1, 1]))


def test_moving_there_and_back_is_nothing():
    boxes = torch.tensor(BOXES)
    once = transform_boxes(boxes, (200, 100), D4(transpose=True, flip_x=True))
    back = transform_boxes(once, (100, 200), D4(transpose=True, flip_y=True))
    assert rotated_iou(boxes, back).diagonal().min() > 0.9999
    mirrored = transform_boxes(boxes, (200, 100), D4(flip_x=True))
    torch.testing.assert_close(obb_to_hbb(mirrored)[:, [0, 2]], 200 - obb_to_hbb(boxes)[:, [2, 0]])
    torch.testing.assert_close(transform_boxes(obb_to_hbb(boxes), (200, 100), D4(flip_x=True)), obb_to_hbb(mirrored))


def test_a_batch_is_padded_and_scaled(dota):
    of = open_labeled("detect", dota)
    small, whole = DetectionDataset(of, PLAIN, 100)[0, 0], DetectionDataset(of, PLAIN, 1000)[0, 0]
    assert small["pixels"].shape == (3, 45, 100) and whole["pixels"].shape == (3, 90, 200)
    torch.testing.assert_close(small["boxes"][0], torch.tensor([20, 15, 15, 6, 0.5]), atol=1e-3, rtol=0)
    batch = detection_collate([small, whole])
    assert batch["pixels"].shape == (2, 3, 90, 200)
    assert (batch["pixels"][0, :, 45:] == 0).all() and (batch["pixels"][0, :, :45, :100] != 0).any()
    assert [len(t["boxes"]) for t in batch["target"]] == [3, 3]
    truth = ground_truth(of.items[0], of.classes, True)
    perfect = to_detected({**batch["target"][1], "scores": torch.ones(3)})
    assert mean_average_precision([perfect], [truth], 2, 0.9).mean == 1
    assert truth.difficult.tolist() == [False, False, True] and truth.labels.tolist() == [0, 1, 1]
    straight = ground_truth(of.items[0], of.classes, False)
    np.testing.assert_allclose(straight.corners.min(1), obb_to_hbb(torch.tensor(BOXES))[:, :2], atol=1e-3)
    with pytest.raises(DataError, match=r"P1\.png has 200 x 90 pixels, more than `tile_size` 128"):
        DetectionDataset(of, PLAIN, 100, tile=128)


@pytest.mark.parametrize("size", [(1024, 1024), (1025, 100), (4000, 3000), (10, 20), (1848, 1848), (1849, 1024)])
def test_tiles_cover_everything_and_overlap(size):
    width, height = size
    found = [tile.window[:2] for tile in make_windows(width, height, TILE_SIZE, TILE_OVERLAP)]
    assert len(set(found)) == len(found)
    for length, axis in ((width, 0), (height, 1)):
        starts = sorted({c[axis] for c in found})
        assert starts[0] == 0 and starts[-1] + 1024 >= length
        assert starts[-1] == max(0, length - 1024)
        assert all(0 < b - a <= 824 for a, b in pairwise(starts))
    assert len(found) == math.prod(max(1, math.ceil((n - 200) / 824)) for n in size)


class Bright(nn.Module):
    """Finds the bright rectangles of a tile exactly: a detector that knows, so that only the way there is tested."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, pixels):
        from scipy.ndimage import label

        from lhrs.downstream.detect.rotated_boxes import min_area_rect

        out = []
        for image in pixels:
            regions, count = label(image[0].numpy() > 0.5)
            points = [np.argwhere(regions == n + 1)[:, ::-1] + 0.5 for n in range(count)]
            boxes = [min_area_rect(p) for p in points if len(p) > 20]
            score = torch.tensor([min(len(p) / 1000, 1.0) for p in points if len(p) > 20])
            out.append({
                "boxes": torch.tensor(np.array(boxes).reshape(-1, 5)), "scores": score,
                "labels": torch.zeros(len(boxes), dtype=torch.int64),
            })  # fmt: skip
        return out


@pytest.mark.parametrize(("suffix", "size"), [("png", 128), ("tif", 128), ("tif", 64)])
def test_a_scene_is_found_as_if_it_were_one_image(tmp_path, suffix, size):
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    centres = [(x, y) for y in range(30, 300, 60) for x in range(30, 420, 60)]  # apart, and on many tiles' edges
    boxes = np.array([[*c, rng.uniform(25, 45), rng.uniform(9, 20), rng.uniform(-1.5, 1.5)] for c in centres])
    image = Image.new("RGB", (420, 300))
    for quad in oriented_corners(boxes):
        ImageDraw.Draw(image).polygon([tuple(p) for p in quad], fill=(255, 255, 255))
    pixels = np.array(image)
    path = tmp_path / f"scene.{suffix}"
    if suffix == "png":
        Image.fromarray(pixels).save(path)
    else:
        with rasterio.open(path, "w", driver="GTiff", width=420, height=300, count=3, dtype="uint8") as file:
            file.write(pixels.transpose(2, 0, 1))
    stack = BandStack((path,))

    def read(box):  # a detector that sees half of the pixels finds the same place
        return read_window(PLAIN, stack, box, size)

    found = detect_tiled(Bright(), stack.shape, read, size=128, overlap=60, batch=3)
    best = rotated_iou(torch.tensor(boxes), found["boxes"])
    least = 0.8 if size == 128 else 0.6
    assert best.max(1).values.min() > least
    assert ((best > 0.3).sum(1) == 1).all()  # none twice


def test_merging_keeps_the_best_of_each_class():
    box = torch.tensor([[10.0, 10, 8, 4, 0.3]])
    one = lambda score, label: {"boxes": box, "scores": torch.tensor([score]), "labels": torch.tensor([label])}  # noqa: E731
    shifted = {**one(0.9, 0), "boxes": box - torch.tensor([100.0, 50, 0, 0, 0])}
    found = merge_tiles([(0, 0, one(0.5, 0)), (100, 50, shifted), (0, 0, one(0.4, 1)), (300, 0, one(0.2, 0))], 5)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.4, 0.2])
    torch.testing.assert_close(found["boxes"][2], torch.tensor([310.0, 10, 8, 4, 0.3]))
    assert merge_tiles([], 4)["boxes"].shape == (0, 4)
    straight = {"boxes": torch.tensor([[1.0, 2, 3, 4]]), "scores": torch.ones(1), "labels": torch.zeros(1).long()}
    assert merge_tiles([(10, 20, straight)], 4)["boxes"].tolist() == [[11, 22, 13, 24]]


@pytest.mark.parametrize(
    ("tile", "expected"),
    [
        # 0.6 of the third lies on the first tile of 96 pixels, 0.9 on that of 99
        (96, {0: ["plane"], 80: ["ship", "ship difficult"], 104: ["ship"]}),
        (99, {0: ["plane", "ship difficult"], 83: ["ship", "ship difficult"], 101: ["ship"]}),
    ],
)
def test_cutting_keeps_what_a_tile_shows(dota, tmp_path, tile, expected):
    out = tmp_path / "cut"
    assert write_tiles(Dota(dota), out, size=tile, overlap=16) == 3
    tiles = open_dataset(out, "dota")
    found = {}
    for n in range(len(tiles)):
        image = Image.open(tiles[n].images[0])
        left, top = (int(v) for v in tiles[n].images[0].removesuffix(".png").rsplit("__")[1].split("_"))
        assert image.size == (tile, tile) and top == 0
        found[left] = [o.label + " difficult" * o.difficult for o in tiles.polygons(n)]
        for outline in tiles.polygons(n):
            whole = outline.points + np.array([left, top])
            assert min(abs(whole - quad).max() for quad in oriented_corners(BOXES)) < 0.06
            x, y = outline.points.mean(0)
            assert image.getpixel((int(x), int(y))) == (250, 250, 250)
    assert found == expected


def test_tiles_have_the_scenes_own_numbers(dota, tmp_path):
    pixels = np.random.default_rng(0).integers(300, 9000, (4, 90, 200)).astype(np.uint16)
    (dota / "images/P1.png").unlink()
    with rasterio.open(dota / "images/P1.tif", "w", driver="GTiff", count=4, height=90, width=200, dtype="uint16") as f:
        f.write(pixels)
    write_tiles(Dota(dota), tmp_path / "cut", size=96, overlap=16)
    tiles = open_dataset(tmp_path / "cut", "dota")
    for sample in tiles:
        left = int(sample.images[0].removesuffix(".tif").rsplit("__")[1].split("_")[0])
        found = BandStack((Path(sample.images[0]),)).read()
        np.testing.assert_array_equal(found[:, :90], pixels[:, :, left : left + 96])
        assert found.dtype == np.uint16 and not found[:, 90:].any()


def test_cutting_is_a_command(dota, tmp_path, monkeypatch, capsys):
    def tile(*arguments):
        monkeypatch.setattr(sys, "argv", ["lhrs", "data", "tile", str(dota), *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    assert tile("--out", str(tmp_path / "by-command"), "--size", "96", "--overlap", "16")[0] in (0, None)
    write_tiles(Dota(dota), tmp_path / "by-hand", 96, 16)
    names = lambda folder: sorted(p.relative_to(folder) for p in folder.rglob("*.*"))  # noqa: E731
    assert names(tmp_path / "by-command") == names(tmp_path / "by-hand")
    code, said = tile("--out", str(tmp_path / "never"), "--size", "96", "--overlap", "96")
    assert code == 2 and "cannot overlap by 96" in said and not (tmp_path / "never").exists()


def test_results_are_written_as_dota_asks(tmp_path):
    found = {
        "P1": Detections(oriented_corners(BOXES), np.array([0.9, 0.123456, 0.5]), np.array([0, 1, 1])),
        "P2": Detections(oriented_corners(BOXES[:1]), np.array([0.25]), np.array([1])),
    }
    write_results(tmp_path / "out", found, ["plane", "small-vehicle", "ship"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "Task1_plane.txt", "Task1_ship.txt", "Task1_small-vehicle.txt"]  # fmt: skip
    line = (tmp_path / "out/Task1_small-vehicle.txt").read_text().splitlines()[0].split()
    assert line[0] == "P1" and len(line) == 10 and float(line[1]) == 0.123456
    for number, name in enumerate(("plane", "small-vehicle", "ship")):
        rows = [line.split() for line in (tmp_path / f"out/Task1_{name}.txt").read_text().splitlines()]
        for image, one in found.items():
            mine = [np.array(values, float) for image_of, *values in rows if image_of == image]
            wanted = one.labels == number
            assert [row[0] for row in mine] == one.scores[wanted].tolist()
            corners = np.array([row[1:] for row in mine]).reshape(-1, 4, 2)
            np.testing.assert_allclose(corners, one.corners[wanted], atol=0.006)


def test_polygons_of_real_images(shared_data):
    """Rectangles of VHR-10's polygons lie in their boxes, and those of long objects are far smaller."""
    reader = CocoBoxes(shared_data / "vhr10", "test")
    of = open_labeled("detect", shared_data / "vhr10", split="test")
    data = DetectionDataset(of, PLAIN, 512)
    assert len(data) == 67 and len(of.classes) == 10
    sample = data[0, 5]
    bounds = torch.tensor([b.xyxy for b in reader[5].boxes])
    grown = bounds + torch.tensor([-1, -1, 1, 1])
    truth = torch.tensor(ground_truth(of.items[5], of.classes, True).corners)
    inner = truth.clamp(grown[:, None, :2], grown[:, None, 2:])
    rectangles = polygon_iou_pairs(*map(oriented_corners, (sample["boxes"].numpy(), sample["boxes"].numpy())))
    assert rectangles == pytest.approx(1) and inner.shape[0] == len(bounds) > 0
    every = np.concatenate([data[0, n]["boxes"].numpy() for n in range(20)])
    boxes = np.concatenate([[b.xyxy for b in reader[n].boxes] for n in range(20)])
    share = every[:, 2] * every[:, 3] / ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    assert share.max() < 1.05 and share.min() < 0.6
    assert (np.abs(every[:, :2] - (boxes[:, :2] + boxes[:, 2:]) / 2) < 0.3 * (boxes[:, 2:] - boxes[:, :2])).all()

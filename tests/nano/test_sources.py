"""Canvases carry their labels through crop, turn and mosaic."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lhrs.nano.sources import (  # noqa: E402
    IGNORE,
    Source,
    VisionDataset,
    _dihedral,
    _move_boxes,
    center_targets,
    draw_canvas,
    jitter,
)

RNG = np.random.default_rng


def scenes(mosaic: float = 0.0) -> Source:
    """Four classes, each one grey level."""
    images = [torch.full((3, 32, 32), 60 * i, dtype=torch.uint8) for i in range(4)]
    return Source("scenes", images, labels=[0, 1, 2, 3], classes=list("abcd"), mosaic=mosaic)


def marked(side: int, box: tuple[int, int, int, int]) -> Source:
    """A white rectangle on black, and its box."""
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    x0, y0, x1, y1 = box
    image[:, y0:y1, x0:x1] = 255
    return Source("marked", [image], boxes=[torch.tensor([box]).float()], crop=(1.0, 1.0))


@pytest.mark.parametrize("turn", range(8))
def test_boxes_follow_the_pixels_through_every_symmetry(turn):
    source = marked(64, (8, 16, 24, 56))
    pixels = _dihedral(source.images[0], turn)
    x0, y0, x1, y1 = (int(v) for v in _move_boxes(source.boxes[0], (0, 0, 64), 64, turn)[0])
    assert pixels[:, y0:y1, x0:x1].min() == 255 and pixels.sum() == source.images[0].sum()
    assert (x1 - x0) * (y1 - y0) == 16 * 40


def test_a_box_that_leaves_the_window_is_clipped_or_dropped():
    boxes = torch.tensor([[0, 0, 20, 20], [50, 50, 64, 64]]).float()
    moved = _move_boxes(boxes, (10, 10, 32), 64, 0)
    assert moved.tolist() == []
    assert _move_boxes(boxes, (6, 6, 32), 64, 0).tolist() == [[0, 0, 28, 28]]


def test_mosaic_cells_hold_the_class_of_their_pixels():
    for seed in range(5):
        canvas = draw_canvas(scenes(mosaic=1.0), 2, 64, RNG(seed))
        levels = canvas.pixels[0].reshape(8, 8, 8, 8).float().mean((1, 3)) / 60
        assert torch.equal(levels.round().long(), canvas.classmap) and canvas.label is None
        assert canvas.classmap[0, 0] == 2


def test_a_sample_depends_on_its_key_alone():
    a, b = (VisionDataset([scenes(), marked(64, (8, 16, 24, 56))], 64, seed=3) for _ in range(2))
    first = a[(1, 4)]["pixels"]
    b[(0, 1)]
    assert torch.equal(first, b[(1, 4)]["pixels"])
    assert not torch.equal(first, a[(2, 4)]["pixels"])


def test_centres_and_sizes_are_where_the_boxes_are():
    heat, size = center_targets(torch.tensor([[16.0, 32.0, 32.0, 64.0]]), 16)
    row, col = divmod(int(heat.argmax()), 16)
    assert (row, col) == (6, 3) and heat[row, col] == 1
    dx, dy, log_w, log_h = size[:, row, col].tolist()
    assert (col + dx, row + dy) == (3, 6) and np.exp([log_w, log_h]) == pytest.approx([2, 4])


def test_land_cover_shares_are_those_of_the_mask():
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[:16] = 1
    mask[:, 16:] = 2  # unlabelled
    source = Source(
        "m", [torch.zeros(3, 32, 32, dtype=torch.uint8)], masks=[mask], classes=["a", "b", "none"], crop=(1, 1)
    )
    cover = draw_canvas(source, 0, 64, RNG(0)).cover
    assert cover.shape == (2, 8, 8) and cover.mean((1, 2)).tolist() == [0.25, 0.25]


def test_weak_jitter_changes_less():
    pixels = torch.randint(0, 255, (3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    far = [(jitter(pixels, RNG(s), 1.0).float() - pixels).abs().mean() for s in range(20)]
    near = [(jitter(pixels, RNG(s), 0.1).float() - pixels).abs().mean() for s in range(20)]
    assert np.median(near) < 0.3 * np.median(far)


def test_labels_of_mosaics_are_ignored():
    item = VisionDataset([scenes(mosaic=1.0)], 64, 0)[(0, 0)]
    assert item["label"] == IGNORE and item["classmap"].min() >= 0

"""Images, classes, land-cover masks and building boxes as augmented tensors for supervised vision pretraining.

Every source is held in memory as uint8 and cut to one square canvas per draw. Shapes: S canvas side in pixels, G = S
/ 8 cells a side of the dense targets. Boxes are xyxy in canvas pixels.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.errors import DataError
from lhrs.imagery.reader import open_source
from lhrs.nano.osm_tiles import Site, read_sites

STRIDE = 8
"""Canvas pixels per cell of the dense targets."""
IGNORE = -100


@dataclass
class Source:
    """Images of one origin with the supervision they carry; unused fields stay empty."""

    name: str
    images: list[Tensor]
    """uint8 `(3, H, W)`."""
    labels: list[int] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    """uint8 `(H, W)`, palette index of the land-cover class; the last class means unlabelled."""
    boxes: list[Tensor] = field(default_factory=list)
    """float `(N, 4)` xyxy pixels of the image."""
    crop: tuple[float, float] = (0.6, 1.0)
    """Smallest and largest side of a random crop, as a share of the shorter image side."""
    mosaic: float = 0.0
    """Chance of a 2x2 mosaic of four images with a class map instead of one image."""
    classes: list[str] = field(default_factory=list)
    """Class names as the set spells them, in label order."""
    repeat: int = 1
    jitter: float = 1.0
    """Strength of the brightness and colour jitter; weak for sets whose classes differ mainly in colour."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass
class Canvas:
    """One square image cut from a source, with what is known about it."""

    pixels: Tensor
    """uint8 `(3, S, S)`."""
    label: int | None = None
    classmap: Tensor | None = None
    """int64 `(G, G)` class of each cell of a mosaic."""
    cover: Tensor | None = None
    """float `(C, G, G)` share of each land-cover class per cell."""
    boxes: Tensor | None = None
    """float `(N, 4)` xyxy canvas pixels."""


def _load(path: Path, size: int | None = None) -> Tensor:
    image = Image.fromarray(np.ascontiguousarray(open_source(path).read(bands=(1, 2, 3))[0].transpose(1, 2, 0)))
    if size and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def folder_source(name: str, root: Path, **settings: Any) -> Source:
    """Read `root/<class>/<image>` with class names sorted."""
    classes = sorted(p.name for p in root.iterdir() if p.is_dir())
    files = [(f, i) for i, c in enumerate(classes) for f in sorted((root / c).iterdir())]
    if not files:
        raise DataError(f"{root} has no <class>/<image> files.")
    return Source(name, [_load(f) for f, _ in files], [i for _, i in files], classes=classes, **settings)


def ucmerced_source(name: str, root: Path, **settings: Any) -> Source:
    """Read the images that `index.jsonl` marks as train; its captions and questions are not used."""
    rows = [json.loads(line) for line in (root / "index.jsonl").read_text().splitlines()]
    classes = sorted({r["label"] for r in rows})
    rows = [r for r in rows if r["split"] == "train"]
    images = [_load(root / r["file"], 256) for r in rows]
    return Source(name, images, [classes.index(r["label"]) for r in rows], classes=classes, **settings)


def mask_source(name: str, root: Path, tiles: list[str], **settings: Any) -> Source:
    """Read `root/<tile>/*.jpg` with palette masks `*_mask.png` beside them."""
    classes = json.loads((root / "classes.json").read_text())
    images, masks = [], []
    for path in sorted(p for tile in tiles for p in (root / tile).glob("*.jpg")):
        images.append(_load(path))
        (codes,), _ = open_source(path.with_name(path.stem + "_mask.png"), raw=True).read()
        masks.append(torch.from_numpy(np.ascontiguousarray(codes)))
    return Source(name, images, masks=masks, classes=classes, **settings)


def site_source(name: str, sites: list[Site], **settings: Any) -> Source:
    """Turn image + OSM building sites into a source of boxes."""
    images = [_load(s.image) for s in sites]
    boxes = [torch.tensor(s.boxes).reshape(-1, 4) for s in sites]
    return Source(name, images, boxes=boxes, **settings)


def load_sources(settings: list[dict], root: Path) -> list[Source]:
    """Build the sources that a run file lists (`kind` picks the reader)."""
    out = []
    for entry in settings:
        entry = dict(entry)
        kind, path = entry.pop("kind"), root / entry.pop("path")
        if "crop" in entry:
            entry["crop"] = tuple(entry["crop"])
        if not path.exists():
            raise DataError(f"{path} does not exist; the run file names it as source {entry['name']!r}.")
        if kind == "folder":
            out.append(folder_source(root=path, **entry))
        elif kind == "ucmerced":
            out.append(ucmerced_source(root=path, **entry))
        elif kind == "masks":
            out.append(mask_source(root=path, **entry))
        elif kind == "sites":
            sites = read_sites(path, entry.pop("labels"), entry.pop("held_out_columns", []), held_out=False)
            out.append(site_source(sites=sites, **entry))
        else:
            raise DataError(f"unknown source kind {kind!r}; known: folder, ucmerced, masks, sites.")
    return out


class VisionDataset(Dataset):
    """Random canvases with targets, drawn by `(epoch, index)` keys.

    A batch is a dict: `pixels` uint8 `(B, 3, S, S)`, `source` `(B,)`, `label` `(B,)`, `classmap` `(B, G, G)` for
    mosaics, `cover` `(B, C, G, G)` land-cover shares (all zero where unlabelled), `heat` `(B, G, G)` building
    centres, `size` `(B, 4, G, G)` centre offset and log size in cells, `has_boxes` `(B,)`.
    """

    def __init__(self, sources: list[Source], size: int, seed: int) -> None:
        self.sources, self.size, self.seed = sources, size, seed
        self.index = [
            (s, i) for s, src in enumerate(sources) for _ in range(src.repeat) for i in range(len(src.images))
        ]
        covers = [s.num_classes - 1 for s in sources if s.masks]
        self.num_covers = max(covers, default=1)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: SampleKey) -> dict:
        rng = sample_rng(self.seed, key)
        s, i = self.index[key[1]]
        source = self.sources[s]
        g = self.size // STRIDE
        canvas = draw_canvas(source, i, self.size, rng)
        item = {
            "source": torch.tensor(s), "label": torch.tensor(IGNORE if canvas.label is None else canvas.label),
            "classmap": torch.full((g, g), IGNORE) if canvas.classmap is None else canvas.classmap,
            "cover": torch.zeros(self.num_covers, g, g) if canvas.cover is None else canvas.cover,
            "heat": torch.zeros(g, g), "size": torch.zeros(4, g, g), "has_boxes": torch.tensor(bool(source.boxes)),
            "pixels": jitter(canvas.pixels, rng, source.jitter),
        }  # fmt: skip
        if canvas.boxes is not None:
            item["heat"], item["size"] = center_targets(canvas.boxes, g)
        return item


def draw_canvas(source: Source, i: int, size: int, rng: np.random.Generator) -> Canvas:
    """Cut a random square window of image `i` (or a mosaic around it), turned and mirrored at random."""
    if rng.random() < source.mosaic:
        return _mosaic(source, i, size, rng)
    window, turn = _window(source, i, rng), int(rng.integers(8))
    canvas = Canvas(_dihedral(_cut(source.images[i], window, size), turn))
    if source.labels:
        canvas.label = source.labels[i]
    if source.masks:
        canvas.cover = _dihedral(_cover(source.masks[i], window, size, source.num_classes - 1), turn)
    if source.boxes:
        canvas.boxes = _move_boxes(source.boxes[i], window, size, turn)
    return canvas


def _window(source: Source, i: int, rng: np.random.Generator) -> tuple[int, int, int]:
    _, h, w = source.images[i].shape
    side = max(8, round(min(h, w) * float(rng.uniform(*source.crop))))
    return int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1)), side


def _mosaic(source: Source, i: int, size: int, rng: np.random.Generator) -> Canvas:
    half, g = size // 2, size // STRIDE
    picks = [i, *(int(p) for p in rng.integers(len(source.images), size=3))]
    pixels, classmap = torch.zeros(3, size, size, dtype=torch.uint8), torch.zeros(g, g, dtype=torch.long)
    for n, p in enumerate(picks):
        y, x = divmod(n, 2)
        tile = _dihedral(_cut(source.images[p], _window(source, p, rng), half), int(rng.integers(8)))
        pixels[:, y * half : (y + 1) * half, x * half : (x + 1) * half] = tile
        classmap[y * g // 2 : (y + 1) * g // 2, x * g // 2 : (x + 1) * g // 2] = source.labels[p]
    return Canvas(pixels, classmap=classmap)


def _cut(image: Tensor, window: tuple[int, int, int], size: int) -> Tensor:
    y, x, side = window
    crop = image[:, y : y + side, x : x + side]
    if side == size:
        return crop
    out = F.interpolate(crop[None], (size, size), mode="bilinear", antialias=side > size)
    return out[0]


def _dihedral(x: Tensor, k: int) -> Tensor:
    """Apply one of the eight symmetries of the square to the last two axes."""
    x = torch.rot90(x, k % 4, (-2, -1))
    return (x.flip(-1) if k >= 4 else x).contiguous()


def _cover(mask: Tensor, window: tuple[int, int, int], size: int, classes: int) -> Tensor:
    y, x, side = window
    crop = F.one_hot(mask[y : y + side, x : x + side].long(), classes + 1)[..., :classes].permute(2, 0, 1).float()
    return F.interpolate(crop[None], (size // STRIDE,) * 2, mode="area")[0]


def _move_boxes(boxes: Tensor, window: tuple[int, int, int], size: int, k: int) -> Tensor:
    """Carry boxes through crop, scale and symmetry; boxes less than 30 % inside are dropped, the rest clipped."""
    y, x, side = window
    b = (boxes - torch.tensor([x, y, x, y])) * (size / side)
    clipped = b.clamp(0, size)
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    inside = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1])
    b = clipped[(inside > 0.3 * area) & (inside >= 9)]
    for _ in range(k % 4):  # counter-clockwise quarter turn: (x, y) -> (y, S - x)
        b = torch.stack([b[:, 1], size - b[:, 2], b[:, 3], size - b[:, 0]], 1)
    if k >= 4:
        b = torch.stack([size - b[:, 2], b[:, 1], size - b[:, 0], b[:, 3]], 1)
    return b


def center_targets(boxes: Tensor, g: int) -> tuple[Tensor, Tensor]:
    """Return a Gaussian centre map `(g, g)` and `(4, g, g)` of (dx, dy, log w, log h) in cells at the centres."""
    heat, size = torch.zeros(g, g), torch.zeros(4, g, g)
    ys, xs = torch.meshgrid(torch.arange(g) + 0.5, torch.arange(g) + 0.5, indexing="ij")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for n in area.argsort(descending=True):  # small boxes last, so that they win a shared cell
        x0, y0, x1, y1 = (boxes[n] / STRIDE).tolist()
        cx, cy, w, h = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        sigma_x, sigma_y = max(w / 6, 0.4), max(h / 6, 0.4)
        heat = torch.maximum(
            heat, torch.exp(-((xs - cx) ** 2) / (2 * sigma_x**2) - ((ys - cy) ** 2) / (2 * sigma_y**2))
        )
        row, col = min(int(cy), g - 1), min(int(cx), g - 1)
        heat[row, col] = 1.0
        size[:, row, col] = torch.tensor([cx - col, cy - row, np.log(max(w, 0.1)), np.log(max(h, 0.1))])
    return heat, size


def jitter(pixels: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Vary brightness, contrast, colour balance and sharpness mildly, as sensors and seasons do."""
    x = pixels.float()
    gain = 1 + strength * (rng.uniform(0.8, 1.25) * rng.uniform(0.94, 1.06, size=3) - 1)
    bias = strength * rng.uniform(-16, 16)
    mean = x.mean()
    x = (x - mean) * torch.tensor(gain, dtype=torch.float32)[:, None, None] + mean + bias
    if rng.random() < 0.1:
        x = F.avg_pool2d(x[None], 3, 1, 1, count_include_pad=False)[0]
    return x.clamp(0, 255).to(torch.uint8)

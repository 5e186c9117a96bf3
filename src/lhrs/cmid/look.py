"""Pictures of what a backbone has learned: a map of its features, what is like what, which places it finds again."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from lhrs.cmid.geometry import draw_crop
from lhrs.cmid.probes import Probe, labelled_folder
from lhrs.cmid.views import resize
from lhrs.errors import ConfigError
from lhrs.files import write_file
from lhrs.imagery.open import open_image

_SIDE = 448


def draw_map(probe: Probe, folder: Path, out: Path, method: str = "tsne", limit: int = 2000) -> None:
    """Draw pooled features of `<class>/<image>` folders in two dimensions, a colour per class.

    Raises:
        ConfigError: there is no such method, or fewer than ten images.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    if method not in {"tsne", "umap"}:
        raise ConfigError(f"there is no method {method!r}: tsne or umap.")
    files, labels, names = labelled_folder(folder)
    at = np.unique(np.linspace(0, len(files) - 1, min(limit, len(files))).round().astype(int))
    if len(at) < 10:
        raise ConfigError(f"{folder} has {len(at)} images; a map needs ten at least.")
    features = F.normalize(probe.pooled([files[n] for n in at]), dim=1).numpy()
    if method == "umap":
        from umap import UMAP

        places = UMAP(random_state=0).fit_transform(features)
    else:
        from sklearn.manifold import TSNE

        places = TSNE(perplexity=min(30, len(at) // 4), random_state=0).fit_transform(features)
    figure, axis = pyplot.subplots(figsize=(8, 7), dpi=120)
    for n, name in enumerate(names):
        of_class = labels[at] == n
        axis.scatter(places[of_class, 0], places[of_class, 1], s=8, color=pyplot.get_cmap("tab20")(n % 20), label=name)
    axis.set_axis_off()
    axis.legend(markerscale=2, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    written = io.BytesIO()
    figure.savefig(written, bbox_inches="tight", format="png")
    pyplot.close(figure)
    write_file(out, written.getvalue())


def draw_attention(probe: Probe, image: Path, place: tuple[float, float], out: Path) -> None:
    """Draw three panels: the image with the query, cosine similarity to it, the first three principal components."""
    pixels = _square(open_image(image).pixels)
    features = F.normalize(probe.maps([_square(probe.read(image))])[0].cpu(), dim=0)
    height, width = features.shape[1:]
    column, row = min(int(place[0] * width), width - 1), min(int(place[1] * height), height - 1)
    alike = torch.einsum("chw,c->hw", features, features[:, row, column])
    flat = features.flatten(1).T
    flat = flat - flat.mean(0)
    main = (flat @ torch.linalg.svd(flat, full_matrices=False).Vh[:3].T).T.unflatten(1, (height, width))
    shown = Image.fromarray(pixels).resize((_SIDE, _SIDE))
    pen, (x, y) = ImageDraw.Draw(shown), (place[0] * _SIDE, place[1] * _SIDE)
    pen.ellipse([x - 6, y - 6, x + 6, y + 6], outline=(255, 0, 0), width=3)
    heat = _stretch(alike[None]).expand(3, -1, -1) * torch.tensor([1.0, 0.8, 0.2]).view(3, 1, 1)
    panels = [shown, *(Image.fromarray(_enlarge(x)) for x in (heat, torch.cat([_stretch(c[None]) for c in main])))]
    _save(Image.fromarray(np.concatenate([np.asarray(p) for p in panels], 1)), out)


def draw_match(probe: Probe, image: Path, seed: int, out: Path) -> tuple[float, int]:
    """Draw mutual nearest cells of two views; return the share that shows the same place, and the number of pairs.

    A pair is right where its cells' centres are at most one cell of the coarser view apart in the image.
    """
    shown, source = (torch.from_numpy(x).permute(2, 0, 1) for x in (open_image(image).pixels, probe.read(image)))
    rng = np.random.default_rng(seed)
    crops = [draw_crop(rng, source.shape[1], source.shape[2], scale=(0.4, 0.9)) for _ in range(2)]
    side = probe.size or 224
    drawn, views = ([resize(x, crop, side).permute(1, 2, 0).numpy() for crop in crops] for x in (shown, source))
    maps = [F.normalize(probe.maps([view])[0].cpu(), dim=0) for view in views]
    grid = maps[0].shape[1]
    alike = maps[0].flatten(1).T @ maps[1].flatten(1)
    there, back = alike.argmax(1), alike.argmax(0)
    pairs = [(n, int(there[n])) for n in range(grid**2) if int(back[there[n]]) == n]
    centres = [crop.centres(grid).reshape(-1, 2) for crop in crops]
    cell = max(max(crop.height, crop.width) for crop in crops) / grid
    right = [float(np.abs(centres[0][a] - centres[1][b]).max()) <= cell for a, b in pairs]
    picture = Image.fromarray(np.concatenate(drawn, 1)).resize((2 * _SIDE, _SIDE))
    pen, step = ImageDraw.Draw(picture), _SIDE / grid
    for (a, b), good in zip(pairs, right, strict=True):
        ends = [((n % grid + 0.5) * step + shift, (n // grid + 0.5) * step) for n, shift in ((a, 0), (b, _SIDE))]
        pen.line([*ends[0], *ends[1]], fill=(0, 220, 0) if good else (230, 0, 0), width=2)
    _save(picture, out)
    return float(np.mean(right)) if pairs else 0.0, len(pairs)


def read_place(text: str) -> tuple[float, float]:
    """Read "column,row" as shares.

    Raises:
        ConfigError: it is not two numbers between 0 and 1.
    """
    try:
        column, row = (float(x) for x in text.split(","))
    except ValueError:
        column = row = -1.0
    if not (0 <= column <= 1 and 0 <= row <= 1):
        raise ConfigError(f"--at {text!r} is not two numbers between 0 and 1, such as 0.5,0.5.")
    return column, row


def _save(picture: Image.Image, out: Path) -> None:
    written = io.BytesIO()
    picture.save(written, format="png")
    write_file(out, written.getvalue())


def _square(pixels: np.ndarray) -> np.ndarray:
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _stretch(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min()).clamp(min=1e-9)


def _enlarge(x: Tensor) -> np.ndarray:
    big = F.interpolate(x[None], (_SIDE, _SIDE), mode="nearest")[0]
    return (big * 255).byte().permute(1, 2, 0).numpy()

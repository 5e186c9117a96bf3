"""Figures of a backbone's features: t-SNE, similarity to a query, principal components, correspondences."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from lhrs.atomic_io import write_atomic
from lhrs.cmid.probes import FeatureExtractor, list_image_folder
from lhrs.cmid.two_views import resize
from lhrs.data.augment import sample_crop
from lhrs.errors import ConfigError
from lhrs.imagery.image import open_image

_SIDE = 448


def plot_tsne(extractor: FeatureExtractor, folder: Path, out: Path, limit: int = 2000) -> None:
    """Plot the t-SNE embedding of pooled features of `<class>/<image>` folders, a color per class.

    Raises:
        ConfigError: there are fewer than ten images.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from sklearn.manifold import TSNE

    files, labels, names = list_image_folder(folder)
    indices = np.unique(np.linspace(0, len(files) - 1, min(limit, len(files))).round().astype(int))
    if len(indices) < 10:
        raise ConfigError(f"{folder} has {len(indices)} images; an embedding needs ten at least.")
    features = F.normalize(extractor.pooled_features([files[n] for n in indices]), dim=1).numpy()
    points = TSNE(perplexity=min(30, len(indices) // 4), random_state=0).fit_transform(features)
    figure, axis = pyplot.subplots(figsize=(8, 7), dpi=120)
    for n, name in enumerate(names):
        in_class = labels[indices] == n
        axis.scatter(points[in_class, 0], points[in_class, 1], s=8, color=pyplot.get_cmap("tab20")(n % 20), label=name)
    axis.set_axis_off()
    axis.legend(markerscale=2, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight", format="png")
    pyplot.close(figure)
    write_atomic(out, buffer.getvalue())


def plot_similarity_and_pca(extractor: FeatureExtractor, image: Path, query: tuple[float, float], out: Path) -> None:
    """Plot three panels: the image with the query, cosine similarity to it, the first three principal components."""
    pixels = _square(open_image(image).pixels)
    features = F.normalize(extractor.feature_maps([_square(extractor.load_image(image))])[0].cpu(), dim=0)
    height, width = features.shape[1:]
    column, row = min(int(query[0] * width), width - 1), min(int(query[1] * height), height - 1)
    similarity = torch.einsum("chw,c->hw", features, features[:, row, column])
    flat = features.flatten(1).T
    flat = flat - flat.mean(0)
    components = (flat @ torch.linalg.svd(flat, full_matrices=False).Vh[:3].T).T.unflatten(1, (height, width))
    shown = Image.fromarray(pixels).resize((_SIDE, _SIDE))
    pen, (x, y) = ImageDraw.Draw(shown), (query[0] * _SIDE, query[1] * _SIDE)
    pen.ellipse([x - 6, y - 6, x + 6, y + 6], outline=(255, 0, 0), width=3)
    heat = _stretch(similarity[None]).expand(3, -1, -1) * torch.tensor([1.0, 0.8, 0.2]).view(3, 1, 1)
    panels = [
        shown,
        *(Image.fromarray(_enlarge(x)) for x in (heat, torch.cat([_stretch(c[None]) for c in components]))),
    ]
    _save(Image.fromarray(np.concatenate([np.asarray(p) for p in panels], 1)), out)


def plot_correspondence(extractor: FeatureExtractor, image: Path, seed: int, out: Path) -> tuple[float, int]:
    """Plot mutual nearest patches of two views; return the fraction that shows the same place, and the number of pairs.

    A pair is correct if its patches' centers are at most one patch of the coarser view apart in the image.
    """
    shown, source = (
        torch.from_numpy(x).permute(2, 0, 1) for x in (open_image(image).pixels, extractor.load_image(image))
    )
    rng = np.random.default_rng(seed)
    crops = [sample_crop(rng, source.shape[1], source.shape[2], scale=(0.4, 0.9)) for _ in range(2)]
    side = extractor.size or 224
    rendered, views = ([resize(x, crop, side).permute(1, 2, 0).numpy() for crop in crops] for x in (shown, source))
    maps = [F.normalize(extractor.feature_maps([view])[0].cpu(), dim=0) for view in views]
    grid = maps[0].shape[1]
    similarity = maps[0].flatten(1).T @ maps[1].flatten(1)
    forward, backward = similarity.argmax(1), similarity.argmax(0)
    pairs = [(n, int(forward[n])) for n in range(grid**2) if int(backward[forward[n]]) == n]
    centers = [crop.centers(grid).reshape(-1, 2) for crop in crops]
    cell = max(max(crop.height, crop.width) for crop in crops) / grid
    correct = [float(np.abs(centers[0][a] - centers[1][b]).max()) <= cell for a, b in pairs]
    figure = Image.fromarray(np.concatenate(rendered, 1)).resize((2 * _SIDE, _SIDE))
    pen, step = ImageDraw.Draw(figure), _SIDE / grid
    for (a, b), good in zip(pairs, correct, strict=True):
        ends = [((n % grid + 0.5) * step + shift, (n // grid + 0.5) * step) for n, shift in ((a, 0), (b, _SIDE))]
        pen.line([*ends[0], *ends[1]], fill=(0, 220, 0) if good else (230, 0, 0), width=2)
    _save(figure, out)
    return float(np.mean(correct)) if pairs else 0.0, len(pairs)


def parse_point(text: str) -> tuple[float, float]:
    """Parse "column,row" as fractions of the image.

    Raises:
        ConfigError: it is not two numbers between 0 and 1.
    """
    try:
        column, row = (float(x) for x in text.split(","))
    except ValueError:
        column = row = -1.0
    if not (0 <= column <= 1 and 0 <= row <= 1):
        raise ConfigError(f"--query {text!r} is not two numbers between 0 and 1, such as 0.5,0.5.")
    return column, row


def _save(figure: Image.Image, out: Path) -> None:
    buffer = io.BytesIO()
    figure.save(buffer, format="png")
    write_atomic(out, buffer.getvalue())


def _square(pixels: np.ndarray) -> np.ndarray:
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _stretch(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min()).clamp(min=1e-9)


def _enlarge(x: Tensor) -> np.ndarray:
    big = F.interpolate(x[None], (_SIDE, _SIDE), mode="nearest")[0]
    return (big * 255).byte().permute(1, 2, 0).numpy()

"""`lhrs probe`: what a backbone's frozen features are good for, in numbers and pictures."""

import json
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="probe", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Look at a backbone's frozen features.",
)  # fmt: skip

Backbone = Annotated[
    str,
    typer.Argument(
        metavar="BACKBONE",
        help="Folder (model/ of a run of `lhrs pretrain`, or a model), lhrs-nano, or a name of timm.",
    ),
]
Train = Annotated[Path, typer.Option("--train", help="Folder with a folder of images for each class, to learn from.")]
Test = Annotated[Path, typer.Option("--test", help="The same, to be scored on.")]
Size = Annotated[int | None, typer.Option("--size", help="Side in pixels to which images are scaled.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, ...")]
Out = Annotated[Path, typer.Option("-o", "--out", help="PNG to write.")]
Pretrained = Annotated[bool, typer.Option("--random", help="With a name of timm: random weights, for comparison.")]


def _probe(backbone: str, size: int | None, device: str, random: bool) -> Any:
    from lhrs.cmid.load import load_probe

    return load_probe(backbone, size, device, random)


def _print(**numbers: float | int) -> None:
    print(json.dumps({name: round(n, 4) if isinstance(n, float) else n for name, n in numbers.items()}))


@app.command("knn")
def knn(
    backbone: Backbone, train: Train, test: Test, size: Size = None, device: Device = "cpu", random: Pretrained = False,
    k: Annotated[int, typer.Option("--k", min=1, help="Neighbors that vote.")] = 20,
) -> None:  # fmt: skip
    """Accuracy of the nearest neighbours' vote, and the features' effective rank (1 is collapse)."""
    from lhrs.cmid.probes import effective_rank, knn_accuracy, labelled_pairs

    probe = _probe(backbone, size, device, random)
    (x, y), (u, v), _ = labelled_pairs(probe, train, test)
    right = knn_accuracy(x, y, u, v, k)
    _print(accuracy=float(right.mean()), images=len(right), effective_rank=effective_rank(u), features=u.shape[1])


@app.command("linear")
def linear(
    backbone: Backbone, train: Train, test: Test, size: Size = None, device: Device = "cpu", random: Pretrained = False
) -> None:
    """Accuracy of a linear classifier on frozen features."""
    from lhrs.cmid.probes import labelled_pairs, linear_accuracy

    probe = _probe(backbone, size, device, random)
    (x, y), (u, v), _ = labelled_pairs(probe, train, test)
    right = linear_accuracy(x, y, u, v)
    _print(accuracy=float(right.mean()), images=len(right))


@app.command("dense")
def dense(
    backbone: Backbone,
    train: Annotated[Path, typer.Option("--train", help="Folder of images, each with NAME_mask.png beside it.")],
    test: Test, size: Size = None, device: Device = "cpu", random: Pretrained = False,
    classes: Annotated[int, typer.Option("--classes", help="Labels from 0 on; higher ones do not count.")] = 5,
    patch: Annotated[int, typer.Option("--patch", help="Side of the pieces that are read at once.")] = 128,
) -> None:  # fmt: skip
    """Mean IoU of a linear segmenter on the frozen last map."""
    from lhrs.cmid.probes import dense_confusion, masked_folder
    from lhrs.metrics.segmentation import segmentation_scores

    probe = _probe(backbone, size, device, random)
    confusion = dense_confusion(probe, masked_folder(train, probe), masked_folder(test, probe), classes, patch)
    scores = segmentation_scores(confusion)
    _print(mean_iou=scores["miou"], pixels=int(confusion.sum()),
           **{f"iou_{n}": 0.0 if isnan(iou) else iou for n, iou in enumerate(scores["iou"])})  # fmt: skip


@app.command("tsne")
def tsne(
    backbone: Backbone, folder: Annotated[Path, typer.Argument(help="Folder with a folder of images per class.")],
    out: Out = Path("tsne.png"), size: Size = None, device: Device = "cpu", random: Pretrained = False,
    method: Annotated[str, typer.Option("--method", help="tsne or umap")] = "tsne",
    limit: Annotated[int, typer.Option("--limit", help="Images at most, spread evenly.")] = 2000,
) -> None:  # fmt: skip
    """Draw the features of a labelled folder in two dimensions."""
    from lhrs.cmid.look import draw_map

    draw_map(_probe(backbone, size, device, random), folder, out, method, limit)
    print(out)


@app.command("attention")
def attention(
    backbone: Backbone, image: Annotated[Path, typer.Argument(help="An image.")], out: Out = Path("attention.png"),
    size: Size = None, device: Device = "cpu", random: Pretrained = False,
    at: Annotated[str, typer.Option("--at", help="Column,row of the query, as shares of the image.")] = "0.5,0.5",
) -> None:  # fmt: skip
    """Draw where features are like those at a place, and their three main directions as colours."""
    from lhrs.cmid.look import draw_attention, read_place

    draw_attention(_probe(backbone, size, device, random), image, read_place(at), out)
    print(out)


@app.command("match")
def match(
    backbone: Backbone, image: Annotated[Path, typer.Argument(help="An image.")], out: Out = Path("match.png"),
    size: Size = None, device: Device = "cpu", random: Pretrained = False,
    seed: Annotated[int, typer.Option("--seed", help="Of the two views.")] = 0,
) -> None:  # fmt: skip
    """Draw which cells of two views of an image find each other, right ones green; print the share of right ones."""
    from lhrs.cmid.look import draw_match

    right, pairs = draw_match(_probe(backbone, size, device, random), image, seed, out)
    _print(right=right, pairs=pairs)

"""`lhrs probe`: probes and figures of a backbone's frozen features."""

import json
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="probe", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Probe the frozen features of a backbone.",
)  # fmt: skip

Backbone = Annotated[
    str,
    typer.Argument(
        metavar="BACKBONE", help="Folder (result of `lhrs pretrain`, or a model), lhrs-nano, or a model name of timm."
    ),
]
Train = Annotated[Path, typer.Option("--train", help="Training data: a folder of images per class.")]
Test = Annotated[Path, typer.Option("--test", help="Test data, as --train.")]
Size = Annotated[int | None, typer.Option("--size", help="Side in pixels to which images are resized.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, ...")]
Out = Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")]
RandomInit = Annotated[
    bool, typer.Option("--random-init", help="With a model of timm: random weights, for comparison.")
]


def _load(backbone: str, size: int | None, device: str, random_init: bool) -> Any:
    from lhrs.cmid.load_backbone import load_backbone

    return load_backbone(backbone, size, device, random_init)


def _print(**values: float | int) -> None:
    print(json.dumps({name: round(n, 4) if isinstance(n, float) else n for name, n in values.items()}))


@app.command("knn")
def knn(
    backbone: Backbone, train: Train, test: Test, size: Size = None, device: Device = "cpu",
    random_init: RandomInit = False, k: Annotated[int, typer.Option("--k", min=1, help="Number of neighbors.")] = 20,
) -> None:  # fmt: skip
    """Accuracy of a k-nearest-neighbor vote, and the effective rank of the features (1 is collapse)."""
    from lhrs.cmid.probes import effective_rank, knn_accuracy, train_test_features

    (x, y), (u, v), _ = train_test_features(_load(backbone, size, device, random_init), train, test)
    correct = knn_accuracy(x, y, u, v, k)
    _print(accuracy=float(correct.mean()), images=len(correct), effective_rank=effective_rank(u), features=u.shape[1])


@app.command("linear")
def linear(
    backbone: Backbone, train: Train, test: Test, size: Size = None, device: Device = "cpu",
    random_init: RandomInit = False,
) -> None:  # fmt: skip
    """Accuracy of a linear classifier on frozen features."""
    from lhrs.cmid.probes import linear_accuracy, train_test_features

    (x, y), (u, v), _ = train_test_features(_load(backbone, size, device, random_init), train, test)
    correct = linear_accuracy(x, y, u, v)
    _print(accuracy=float(correct.mean()), images=len(correct))


@app.command("segment")
def segment(
    backbone: Backbone,
    train: Annotated[Path, typer.Option("--train", help="Folder of images with a NAME_mask.png each.")],
    test: Test, size: Size = None, device: Device = "cpu", random_init: RandomInit = False,
    classes: Annotated[int, typer.Option("--classes", help="Number of classes; higher labels are ignored.")] = 5,
    window_size: Annotated[int, typer.Option("--window-size", help="Side in pixels of windows.")] = 128,
) -> None:  # fmt: skip
    """Mean IoU of a linear segmenter on the last feature map."""
    from lhrs.cmid.probes import linear_segmentation_confusion, read_mask_folder
    from lhrs.metrics.segmentation import segmentation_scores

    extractor = _load(backbone, size, device, random_init)
    training, testing = (read_mask_folder(folder, extractor) for folder in (train, test))
    confusion = linear_segmentation_confusion(extractor, training, testing, classes, window_size)
    scores = segmentation_scores(confusion)
    _print(mean_iou=scores["miou"], pixels=int(confusion.sum()),
           **{f"iou_{n}": 0.0 if isnan(iou) else iou for n, iou in enumerate(scores["iou"])})  # fmt: skip


@app.command("embed")
def embed(
    backbone: Backbone, folder: Annotated[Path, typer.Argument(help="Folder with a folder of images per class.")],
    out: Out = Path("embedding.png"), size: Size = None, device: Device = "cpu", random_init: RandomInit = False,
    limit: Annotated[int, typer.Option("--limit", help="Maximum number of images, spread evenly.")] = 2000,
) -> None:  # fmt: skip
    """Plot the t-SNE embedding of the features of labeled images."""
    from lhrs.cmid.visualize import plot_tsne

    plot_tsne(_load(backbone, size, device, random_init), folder, out, limit)
    print(out)


@app.command("similarity")
def similarity(
    backbone: Backbone, image: Annotated[Path, typer.Argument(help="An image.")], out: Out = Path("similarity.png"),
    size: Size = None, device: Device = "cpu", random_init: RandomInit = False,
    query: Annotated[str, typer.Option("--query", help="Position x,y of the query patch, as fractions.")] = "0.5,0.5",
) -> None:  # fmt: skip
    """Plot the cosine similarity of features to a query point, and their first three principal components."""
    from lhrs.cmid.visualize import parse_point, plot_similarity_and_pca

    plot_similarity_and_pca(_load(backbone, size, device, random_init), image, parse_point(query), out)
    print(out)


@app.command("correspondence")
def correspondence(
    backbone: Backbone, image: Annotated[Path, typer.Argument(help="An image.")],
    out: Out = Path("correspondence.png"), size: Size = None, device: Device = "cpu", random_init: RandomInit = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the two views.")] = 0,
) -> None:  # fmt: skip
    """Plot mutual nearest patches of two views of an image, correct ones in green; print their fraction."""
    from lhrs.cmid.visualize import plot_correspondence

    correct, pairs = plot_correspondence(_load(backbone, size, device, random_init), image, seed, out)
    _print(correct=correct, pairs=pairs)

"""`lhrs probe` on a backbone in a folder: numbers as JSON, pictures, one line for mistakes."""

import json
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from lhrs.cli import main
from lhrs.models.timm_io import write_timm_folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=0)
    write_timm_folder(folder, model.state_dict(), "test_resnet", {}, 64, [0.5] * 3, [0.25] * 3)
    return folder


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Two colors, which any features tell apart."""
    root, rng = tmp_path_factory.mktemp("labeled"), np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for n, name in enumerate(("blue", "red")):
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 60, (64, 64, 3))
                pixels[..., 2 if n == 0 else 0] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """The left half is red and of class 1."""
    root, rng = tmp_path_factory.mktemp("masked"), np.random.default_rng(0)
    pixels = rng.integers(0, 60, (128, 192, 3)).astype(np.uint8)
    pixels[:, :64, 0] += 150
    label = np.zeros((128, 192), np.uint8)
    label[:, :64] = 1
    label[:4] = 9  # counts nowhere
    Image.fromarray(pixels).save(root / "a.png")
    Image.fromarray(label).save(root / "a_mask.png")
    return root


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["lhrs", "probe", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        main()
    said = capsys.readouterr()
    return error.value.code or 0, said.out, said.err


@pytest.mark.parametrize("kind", ["knn", "linear"])
def test_colors_are_told_apart(monkeypatch, capsys, backbone, labeled, kind):
    folders = ("--train", labeled / "train", "--test", labeled / "test")
    code, out, _ = run(monkeypatch, capsys, kind, backbone, *folders)
    found = json.loads(out)
    assert code == 0 and found["accuracy"] == 1.0 and found["images"] == 12
    if kind == "knn":
        assert 1 <= found["effective_rank"] <= found["features"]


def test_the_embedded_models_encoder(monkeypatch, capsys, labeled):
    folders = ("--train", labeled / "train", "--test", labeled / "test", "--size", 64)
    code, out, _ = run(monkeypatch, capsys, "knn", "lhrs-nano", *folders)
    assert code == 0 and json.loads(out)["features"] == 320


def test_a_half_is_segmented(monkeypatch, capsys, backbone, masked):
    code, out, _ = run(monkeypatch, capsys, "segment", backbone, "--train", masked, "--test", masked, "--classes", 2,
                       "--window-size", 64, "--size", 64)  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["mean_iou"] > 0.8 and found["pixels"] == 124 * 192


@pytest.mark.parametrize("kind", ["embed", "similarity", "correspondence"])
def test_pictures_are_drawn(monkeypatch, capsys, tmp_path, backbone, labeled, masked, kind):
    of = labeled / "train" if kind == "embed" else masked / "a.png"
    code, out, err = run(monkeypatch, capsys, kind, backbone, of, "--out", tmp_path / "picture.png")
    assert code == 0, err
    assert Image.open(tmp_path / "picture.png").width >= 448
    if kind == "correspondence":
        found = json.loads(out)
        assert 0 <= found["correct"] <= 1 and found["pairs"] > 0


@pytest.mark.parametrize(
    "arguments, why",
    [
        (("knn", "nowhere", "--train", ".", "--test", "."), "neither a folder nor a model of timm"),
        (("knn", ".", "--train", ".", "--test", "."), "no config.json"),
        (("similarity", "test_resnet", "nothing.png", "--random-init"), "nothing.png does not exist"),
        (
            ("similarity", "test_resnet", "nothing.png", "--random-init", "--query", "2,0"),
            "two numbers between 0 and 1",
        ),
        (("embed", "test_resnet", "nowhere", "--random-init"), "nowhere does not exist"),
        (("segment", "test_resnet", "--random-init", "--train", "nowhere", "--test", "."), "NAME_mask.png"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path, arguments, why):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert code == 2 and why in err and err.strip().count("\n") == 0 and not out
    assert not list(tmp_path.iterdir())

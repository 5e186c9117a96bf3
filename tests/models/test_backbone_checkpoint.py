"""Checkpoints of other training codes as backbones."""

import pytest
import timm
import torch

from lhrs.errors import CheckpointError
from lhrs.models.importers.backbone_checkpoint import load_backbone_checkpoint


def trained(num_classes=0):
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=num_classes)


@pytest.mark.parametrize(
    ("prefix", "nest"),
    [
        ("", None),
        ("module.", None),
        ("model.", "state_dict"),
        ("module.backbone.", "model"),
        ("encoder_q.", "state_dict"),
    ],
)
@pytest.mark.parametrize("num_classes", [0, 10])
def test_prefixes_are_removed_and_classifiers_left_out(tmp_path, capsys, prefix, nest, num_classes):
    source = trained(num_classes).state_dict()
    saved = {f"{prefix}{name}": value for name, value in source.items()}
    if prefix == "encoder_q.":
        saved |= {"queue": torch.zeros(8), **{f"encoder_k.{name}": value + 1 for name, value in source.items()}}
    torch.save({"epoch": 3, nest: saved} if nest else saved, tmp_path / "a.pth")
    torch.manual_seed(2)
    model = timm.create_model("test_resnet", num_classes=0)
    dropped = load_backbone_checkpoint(model, tmp_path / "a.pth")
    for name, value in model.state_dict().items():
        assert torch.equal(value, source[name]), name
    assert dropped.counts["weights of a classifier"] == (2 if num_classes else 0)
    assert ("outside of the backbone" in dropped.counts) == (prefix == "encoder_q.")
    assert ("left out" in capsys.readouterr().err) == bool(dropped)


def test_another_architecture_is_one_line(tmp_path):
    torch.save(trained().state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="does not fit") as error:
        load_backbone_checkpoint(timm.create_model("test_vit", num_classes=0), tmp_path / "a.pth")
    assert "\n" not in str(error.value)
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        load_backbone_checkpoint(trained(), tmp_path / "b.pth")

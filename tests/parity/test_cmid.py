"""Backbones of CMID compute in timm what they computed in its own code."""

import json
import pickle

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from safetensors.torch import load_file  # noqa: E402

from lhrs.errors import CheckpointError  # noqa: E402
from lhrs.models.importers.cmid import STUDENT, TEACHER, read_backbone, save_backbone  # noqa: E402


@torch.no_grad()
def stage4(model, x):
    """The deepest map as `(batch, channels, height, width)`."""
    return model.forward_features(x).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["backbone", "full"])
def test_a_swin_gives_the_recorded_features(cmid, name):
    expected = load_file(cmid / "cmid_swin_expected.safetensors")
    backbone = read_backbone(cmid / f"cmid_swin_tiny_{name}.pth")
    arch = json.loads((cmid / "cmid_meta.json").read_text())["arch"]
    assert backbone.sizes["depths"] == tuple(arch["depths"]) and backbone.sizes["num_heads"] == tuple(arch["num_heads"])
    assert backbone.sizes["window_size"] == arch["window"] and backbone.sizes["embed_dim"] == arch["embed_dim"]
    found = stage4(backbone.build(), expected["x"].float())
    torch.testing.assert_close(found, expected["stage4"], atol=1e-4, rtol=0)


def test_the_teacher_is_taken_on_request_only(cmid):
    student, teacher = (read_backbone(cmid / "cmid_swin_tiny_full.pth", teacher=t) for t in (False, True))
    assert student.state.keys() == teacher.state.keys()
    for name, value in student.state.items():
        torch.testing.assert_close(teacher.state[name], value + 1)
    with pytest.raises(CheckpointError, match="has no teacher"):
        read_backbone(cmid / "cmid_swin_tiny_backbone.pth", teacher=True)
    assert {"the teacher", "heads, queue and masks of pretraining", "relative_position_index"} <= student.dropped.keys()


def test_a_saved_backbone_loads_into_timm(cmid, tmp_path):
    backbone = read_backbone(cmid / "cmid_swin_tiny_backbone.pth")
    save_backbone(backbone, tmp_path / "swin")
    x = torch.rand(1, 3, 224, 224)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'swin'}", pretrained=True).eval()
    torch.testing.assert_close(stage4(loaded, x), stage4(backbone.build(), x))


def test_a_resnet_of_a_full_run_loads_into_timm(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet50", num_classes=3).eval()
    state = {f"{STUDENT}{name}": value for name, value in model.state_dict().items()}
    state |= {f"{TEACHER}{name}": torch.zeros_like(value) for name, value in model.state_dict().items()}
    state["online_encoder.mask_token"] = torch.zeros(1, 64, 1, 1)
    torch.save({"epoch": 1, "model": state}, tmp_path / "epoch_1.pth")
    backbone = read_backbone(tmp_path / "epoch_1.pth")
    assert backbone.architecture == "resnet50" and "fc" in backbone.dropped
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.build().forward_features(x), model.forward_features(x))


class Harmless:
    """Pickles as a call, which a careless reader would make."""

    def __reduce__(self):
        return print, ("code ran",)


def test_wrong_files_are_one_line(cmid, tmp_path, capsys):
    whole = (cmid / "cmid_swin_tiny_backbone.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save({"model": {"a": torch.zeros(1)}, "x": Harmless()}, tmp_path / "code.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmless()))
    state = torch.load(cmid / "cmid_swin_tiny_backbone.pth", weights_only=True)
    torch.save({k: v for k, v in state.items() if k != "norm3.bias"}, tmp_path / "incomplete.pth")
    torch.save({**state, "norm3.bias": torch.zeros(7)}, tmp_path / "shape.pth")
    for name, why in {
        "missing": "does not exist",
        "cut": "broken",
        "other": "no checkpoint of LHRS-Bot, LHRS-Bot-Nova or CMID",
        "code": "holds more than tensors",
        "plain": "holds more than tensors",
        "incomplete": "does not fit",
        "shape": "does not fit",
    }.items():
        with pytest.raises(CheckpointError, match=why) as error:
            read_backbone(tmp_path / f"{name}.pth").build()
        assert "\n" not in str(error.value)
    assert "code ran" not in capsys.readouterr().out

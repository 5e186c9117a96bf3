"""Any backbone gives its maps: sizes, weights, bands; and what does not fit is told in one line."""

import json

import pytest
import timm
import torch

from lhrs.downstream.backbone import STRIDES, Backbone, FeaturePyramid
from lhrs.errors import CheckpointError, ConfigError, LHRSError
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import nano_folder
from lhrs.models.timm_io import write_timm_folder

TINY_SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 16, "num_heads": (1, 1, 2, 2)}
FAMILIES = [
    ("test_resnet", {}),
    ("test_convnext", {}),
    ("test_vit", {"img_size": 64}),
    ("test_vit", {"img_size": 64, "patch_size": 8}),
    ("swin_tiny_patch4_window7_224", TINY_SWIN),
    ("resnet18", {"output_stride": 16}),
]


@pytest.mark.parametrize(("name", "args"), FAMILIES, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_four_maps_of_any_size_and_band_count(name, args):
    torch.manual_seed(0)
    pyramid = FeaturePyramid(Backbone(name, 5, args)).eval()
    for high, wide in ((64, 96), (75, 33)):
        pixels = torch.randn(2, 5, high, wide)
        maps = pyramid(pixels)
        expected = [(2, c, -(-high // s), -(-wide // s)) for c, s in zip(pyramid.channels, STRIDES, strict=True)]
        assert [tuple(x.shape) for x in maps] == expected
        assert all(torch.isfinite(x).all() and x.std() > 0 for x in maps)


def test_some_of_the_maps_are_the_same_as_all_of_them():
    encoder = Backbone("test_resnet")
    pixels = torch.randn(1, 3, 64, 64)
    some, whole = FeaturePyramid(encoder, [2]).eval(), FeaturePyramid(encoder).eval()
    torch.testing.assert_close(some(pixels)[0], whole(pixels)[2])
    assert some.channels == [whole.channels[2]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What `lhrs pretrain` leaves."""
    out = tmp_path_factory.mktemp("backbone")
    torch.manual_seed(3)
    model = timm.create_model("test_convnext", num_classes=0)
    write_timm_folder(out, model.state_dict(), "test_convnext", {}, 64, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    return out


def test_a_pretrained_folder_gives_its_features_and_numbers(folder):
    encoder = Backbone(str(folder)).eval()
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(encoder(pixels), model.forward_features(pixels))
    assert (encoder.normalization.mean, encoder.normalization.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    again = Backbone(**encoder.settings)  # what a model folder says; weights are its own
    assert again.state_dict().keys() == encoder.state_dict().keys()


def test_the_encoder_of_a_multimodal_model_is_a_backbone_too(tmp_path):
    encoder = Backbone("lhrs-nano").eval()
    model = LHRSForConditionalGeneration.from_pretrained(nano_folder()).eval()
    pixels = torch.randn(1, 3, 128, 128)
    expected = model.model.vision_tower(pixels, output_hidden_states=True, do_pooling=False).hidden_states[-1]
    torch.testing.assert_close(encoder(pixels), expected)
    assert (encoder.normalization.mean, encoder.normalization.std) == ((0.5,) * 3, (0.5,) * 3)
    assert encoder.settings["name"] == "tf_efficientnet_lite0"
    assert Backbone(str(nano_folder())).state_dict().keys() == encoder.state_dict().keys()
    config = json.loads((nano_folder() / "config.json").read_text())
    config["vision_config"]["model_type"] = "siglip_vision_model"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="its encoder is a siglip_vision_model, not one of timm"):
        Backbone(str(tmp_path))


def test_three_bands_are_spread_over_more_and_others_are_refused(folder, tmp_path):
    three, six = Backbone(str(folder)), Backbone(str(folder), 6)
    first, wide = three.model.stem[0].weight, six.model.stem[0].weight
    assert wide.shape[1] == 6
    torch.testing.assert_close(wide[:, 3:], first / 2)  # the same response to the same gray
    model = timm.create_model("test_convnext", num_classes=0, in_chans=4)
    write_timm_folder(tmp_path, model.state_dict(), "test_convnext", {"in_chans": 4}, 64, [0.1] * 4, [0.4] * 4)
    assert Backbone(str(tmp_path), 4).settings["in_chans"] == 4
    with pytest.raises(CheckpointError, match="was trained on 4 bands, the images have 3"):
        Backbone(str(tmp_path), 3)


def test_a_frozen_encoder_does_not_move():
    encoder = Backbone("test_resnet")
    encoder.freeze()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    torch.nn.Sequential(encoder).train()(torch.randn(4, 3, 32, 32))
    assert not any(p.requires_grad for p in encoder.parameters())
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: Backbone("resnet81"), "neither a folder nor a model of timm"),
        (lambda tmp: Backbone(str(tmp)), "is no backbone"),
        (lambda _: Backbone("test_resnet", 3, {"no_such": 1}), "cannot be built"),
        (lambda _: FeaturePyramid(Backbone("test_vit", 3, {"img_size": 56, "patch_size": 14})), "patch_size: 16"),
    ],
)
def test_mistakes_are_one_line(tmp_path, make, why):
    with pytest.raises(LHRSError, match=why) as error:
        make(tmp_path)
    assert "\n" not in str(error.value) and isinstance(error.value, ConfigError | CheckpointError)

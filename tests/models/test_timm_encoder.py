"""A real timm encoder: EfficientNet-Lite0 as timm defines it, with random weights."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.models.tiny import byte_tokenizer, llama
from transformers import LlamaForCausalLM

from lhrs.cmid.load_backbone import load_backbone
from lhrs.downstream.backbone import Backbone
from lhrs.errors import CheckpointError, ConfigError
from lhrs.models.load import load_model
from lhrs.models.presets import Preset, build_model
from lhrs.models.timm_io import write_timm_folder

BRIDGE = {"queries": [4, 3, 2], "hidden_size": 16, "num_layers": 1, "num_heads": 2}
LEVELS = (2, 3, 4)
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()


@pytest.fixture(scope="module")
def parts(tmp_path_factory, lite0):
    folder = tmp_path_factory.mktemp("parts")
    write_timm_folder(folder / "encoder", lite0.state_dict(), "tf_efficientnet_lite0", {}, 64, MEAN, STD)
    tokenizer = byte_tokenizer([])
    tokenizer.save_pretrained(folder / "language")
    LlamaForCausalLM(llama(len(tokenizer))).save_pretrained(folder / "language")
    return Preset(str(folder / "encoder"), str(folder / "language"), LEVELS, BRIDGE, "llava_llama_2")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, parts):
    model, processor = build_model(parts)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder, model, processor


def pixels_of(processor, image):
    return processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]


@torch.no_grad()
def test_a_saved_model_with_a_timm_encoder_loads_and_computes_the_same(saved):
    folder, model, processor = saved
    again, reloaded = load_model(folder)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 50, 3), np.uint8))
    first, second = pixels_of(processor, image), pixels_of(reloaded, image)
    assert torch.equal(first, second) and first.shape == (1, 3, 64, 64)
    assert torch.equal(again.get_image_features(second).pooler_output, model.get_image_features(first).pooler_output)


def test_the_whole_image_is_resized_and_normalized_as_the_config_says(saved):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :3] = image[:, -3:] = 255  # the rim that a center crop hides
    pixels = pixels_of(saved[2], Image.fromarray(image))[0]
    undone = pixels * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    expected = torch.from_numpy(np.array(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)) / 255)
    torch.testing.assert_close(undone.permute(1, 2, 0).double(), expected, atol=1e-5, rtol=0)
    assert undone[:, :, 0].min() > 0.9 and undone[:, :, -1].min() > 0.9


@torch.no_grad()
def test_layers_that_no_level_needs_are_not_stored(saved, lite0):
    folder, model, _ = saved
    names = [name for name in load_file(folder / "model.safetensors") if "vision_tower" in name]
    assert names and not [name for name in names if "conv_head" in name or "bn2" in name.split(".")[3]]
    assert sum(p.numel() for p in model.model.vision_tower.parameters()) < sum(p.numel() for p in lite0.parameters())
    pixels = torch.rand(1, 3, 64, 64)
    expected = lite0.forward_intermediates(pixels, indices=list(LEVELS), intermediates_only=True)
    assert torch.equal(model.get_image_features(pixels).last_hidden_state, expected[-1].flatten(2).transpose(1, 2))


@torch.no_grad()
def test_the_encoder_of_a_saved_model_is_a_backbone(saved, lite0):
    pixels = torch.rand(1, 3, 64, 64)
    expected = lite0.forward_intermediates(pixels, indices=[4], intermediates_only=True)[0]
    assert torch.equal(Backbone(str(saved[0])).eval()(pixels), expected)
    probed = load_backbone(str(saved[0]))
    assert torch.equal(probed.model.forward_features(pixels), expected)
    copy = Backbone(**Backbone(str(saved[0])).settings, is_folder=False)
    assert copy.state_dict().keys() == Backbone(str(saved[0])).state_dict().keys()


def test_an_earlier_deepest_level_drops_the_stages_after_it(parts, tmp_path):
    model, processor = build_model(Preset(**{**vars(parts), "levels": (1, 2, 3)}))
    assert model.config.bridge_config.level_sizes == [24, 40, 112]
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    backbone = Backbone(str(tmp_path))
    assert backbone.strides == (2, 4, 8, 16) and backbone.widths[-1] == 112


def test_levels_that_the_encoder_lacks_are_refused(parts):
    with pytest.raises(CheckpointError, match="has no level 7; choose others"):
        build_model(Preset(**{**vars(parts), "levels": (2, 3, 7)}))


def test_images_may_have_another_size_than_in_pretraining(parts, tmp_path):
    _, processor = build_model(parts, image_size=96)
    assert pixels_of(processor, Image.new("RGB", (30, 20))).shape == (1, 3, 96, 96)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    write_timm_folder(tmp_path, vit.state_dict(), "vit_tiny_patch16_224", {}, 224, MEAN, STD)
    with pytest.raises(ConfigError, match="reads images of 224 pixels only"):
        build_model(Preset(**{**vars(parts), "levels": (1, 2, 3)}), encoder=tmp_path, image_size=96)

"""Weights of the original layout give the numbers that the original systems gave."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaForCausalLM, SiglipVisionConfig

from lhrs.errors import CheckpointError
from lhrs.models import LHRSBridgeConfig, LHRSConfig, LHRSForConditionalGeneration
from lhrs.models.importers.lhrs_bot import load_original
from lhrs.models.presets import PRESETS

TOLERANCE = 1e-4  # max abs error in float32
VARIANTS = {"v1": "lhrs-bot-7b", "nova": "lhrs-bot-nova-8b"}


def empty_model(folder, **bridge):
    """The family's model at the sizes of the recording, with the base language model's weights."""
    meta = json.loads((folder / "meta.json").read_text())
    vision = {k: v for k, v in meta["vision"].items() if k != "kind"}
    sizes = meta["bridge"]
    settings = {
        **PRESETS[VARIANTS[meta["variant"]]].bridge,
        "queries": sizes["queries"],
        "hidden_size": sizes["hidden"],
        "num_layers": sizes["layers"],
        "num_heads": sizes["heads"],
    }
    if sizes["experts"]:
        settings |= {"num_experts": sizes["experts"], "top_k": sizes["top_k"], "expert_style": "nova_linear"}
    torch.manual_seed(0)
    language = LlamaForCausalLM.from_pretrained(folder / "llm_base")
    language.resize_token_embeddings(language.config.vocab_size + 1)  # the placeholder
    config = LHRSConfig(
        (CLIPVisionConfig if meta["vision"]["kind"] == "clip" else SiglipVisionConfig)(**vision),
        language.config,
        LHRSBridgeConfig(**{**settings, **bridge}),
        levels=PRESETS[VARIANTS[meta["variant"]]].levels,
        image_token_id=language.config.vocab_size - 1,
    )
    model = LHRSForConditionalGeneration(config).eval()
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    return model


@pytest.fixture(params=VARIANTS)
def folder(golden, request):
    return golden / request.param


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the recorded checkpoint that a test may damage."""
    for name in ("FINAL.pt", "TextLoRA"):
        source = folder / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / name)
    (tmp_path / "TextLoRA").chmod(0o755)
    for path in tmp_path.rglob("*.*"):
        path.chmod(0o644)
    return tmp_path


def test_the_taps_are_those_of_the_recording(folder):
    meta = json.loads((folder / "meta.json").read_text())
    assert list(PRESETS[VARIANTS[meta["variant"]]].levels) == meta["taps"]


@torch.no_grad()
def test_the_original_numbers_come_out(folder):
    model = empty_model(folder)
    load_original(model, folder / "FINAL.pt")
    expected = load_file(folder / "expected.safetensors")
    images = model.get_image_features(expected["pixel_values"])
    torch.testing.assert_close(images.last_hidden_state, expected["features"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(images.pooler_output, expected["image_embeds"], atol=TOLERANCE, rtol=0)

    num_tokens, placeholder = model.config.bridge_config.num_tokens, model.config.image_token_id
    rows = [[[i] if i >= 0 else [placeholder] * num_tokens for i in row] for row in expected["input_ids"].tolist()]
    ids = torch.tensor([[i for part in row for i in part] for row in rows])
    logits = model(input_ids=ids, pixel_values=expected["pixel_values"]).logits[..., :-1]
    torch.testing.assert_close(logits, expected["logits"], atol=TOLERANCE, rtol=0)

    steps = expected["greedy_ids"].shape[1]
    model.generation_config.eos_token_id = None  # the recording does not stop
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=expected["pixel_values"],
        max_new_tokens=steps,
        do_sample=False,
    )
    assert out[:, -steps:].tolist() == expected["greedy_ids"].tolist()


def test_layers_that_nobody_reads_may_be_left_out(golden):
    """The model built from presets stops at the deepest level; CLIP checkpoints hold two layers more."""
    model = empty_model(golden / "v1")
    shorter = model.config
    shorter.vision_config.num_hidden_layers = max(shorter.levels)
    model = LHRSForConditionalGeneration(shorter).eval()
    load_original(model, golden / "v1" / "FINAL.pt")
    expected = load_file(golden / "v1" / "expected.safetensors")
    images = model.get_image_features(expected["pixel_values"])
    torch.testing.assert_close(images.pooler_output, expected["image_embeds"], atol=TOLERANCE, rtol=0)


def test_without_an_adapter_the_language_model_stays_as_it_was(copy, folder):
    shutil.rmtree(copy / "TextLoRA")
    model = empty_model(folder)
    before = {name: value.clone() for name, value in model.model.language_model.state_dict().items()}
    load_original(model, copy / "FINAL.pt")
    for name, value in model.model.language_model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_checkpoints_nested_under_model_load_too(copy, folder):
    torch.save({"model": torch.load(copy / "FINAL.pt", weights_only=True)}, copy / "FINAL.pt")
    nested, plain = empty_model(folder), empty_model(folder)
    load_original(nested, copy / "FINAL.pt")
    load_original(plain, folder / "FINAL.pt")
    for name, value in plain.state_dict().items():
        assert torch.equal(value, nested.state_dict()[name]), name


def fails(model, path, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        load_original(model, path)
    assert "\n" not in str(caught.value)


def test_a_bridge_of_another_size_is_refused(folder):
    fails(
        empty_model(folder, mlp_ratio=2.0),
        folder / "FINAL.pt",
        r"bridge does not fit: layers\.\d\.mlp\..* has shape \(.*\), the model needs",
    )


def test_a_missing_tensor_is_named(copy, folder):
    saved = torch.load(copy / "FINAL.pt", weights_only=True)
    del saved["other_ckpt"]["rgb_pooler"]["layers.2.ln_1_kv.bias"]
    torch.save(saved, copy / "FINAL.pt")
    fails(empty_model(folder), copy / "FINAL.pt", r"it lacks layers\.2\.key_norm\.bias")


def test_an_adapter_of_another_base_model_is_refused(copy, folder):
    path = copy / "TextLoRA" / "adapter_model.safetensors"
    weights = load_file(path)
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    save_file({**weights, name: weights[name][:-8].contiguous()}, path)
    fails(empty_model(folder), copy / "FINAL.pt", "base model it was trained on")


def test_half_an_adapter_is_refused(copy, folder):
    path = copy / "TextLoRA" / "adapter_model.safetensors"
    weights = load_file(path)
    del weights["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"]
    save_file(weights, path)
    fails(empty_model(folder), copy / "FINAL.pt", r"layers\.1\.mlp\.up_proj\.weight needs lora_A, lora_B")


def test_the_adapter_s_rank_and_alpha_are_used(copy, folder):
    path = copy / "TextLoRA" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 16}))
    base, once, twice = empty_model(folder), empty_model(folder), empty_model(folder)
    load_original(once, folder / "FINAL.pt")
    load_original(twice, copy / "FINAL.pt")
    name = "model.language_model.layers.1.self_attn.q_proj.weight"
    start = base.state_dict()[name]
    step = once.state_dict()[name] - start
    torch.testing.assert_close(twice.state_dict()[name] - start, 2 * step)
    assert step.abs().max() > 1e-3


def test_files_that_hold_code_are_refused(copy, folder):
    torch.save({"rgb_ckpt": pytest.fail}, copy / "FINAL.pt")
    fails(empty_model(folder), copy / "FINAL.pt", "holds more than tensors")


def test_other_checkpoints_are_refused(copy, folder):
    torch.save({"state_dict": {}}, copy / "FINAL.pt")
    fails(empty_model(folder), copy / "FINAL.pt", "not an LHRS-Bot checkpoint: it lacks 'rgb_ckpt'")
    fails(empty_model(folder), copy / "absent.pt", "does not exist")

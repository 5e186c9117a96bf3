"""Presets, chat formats, and joining parts from disk."""

import pytest
import torch
from tests.models.tiny import SIDE, VIT, byte_tokenizer, llama
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionModel,
    LlamaForCausalLM,
    SiglipImageProcessorPil,
    TimmWrapperConfig,
    TimmWrapperModel,
)

from lhrs.errors import CheckpointError, ConfigError
from lhrs.models import LHRSForConditionalGeneration, LHRSProcessor, presets
from lhrs.models.presets import PRESETS, Preset, build_model, chat_template, get_preset, nano_folder

BRIDGE = {"queries": [4, 3, 2], "hidden_size": 16, "num_layers": 2, "num_heads": 2, "keys_include_queries": True}


@pytest.fixture
def parts(tmp_path):
    """An encoder published with its text tower, and a language model that knows no placeholder; both on disk."""
    torch.manual_seed(0)
    encoder, language = tmp_path / "encoder", tmp_path / "language"
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**VIT, "num_hidden_layers": 5, "image_size": SIDE, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(encoder)
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPImageProcessorPil(**size).save_pretrained(encoder)
    tokenizer = byte_tokenizer(["<|eot_id|>"])
    tokenizer.save_pretrained(language)
    LlamaForCausalLM(llama(len(tokenizer))).save_pretrained(language)
    return Preset(str(encoder), str(language), (1, 2, 4), BRIDGE, "llama3")


@torch.no_grad()
def test_parts_keep_their_weights(parts, picture):
    model, processor = build_model(parts)
    model.eval()
    inputs = processor(text=["<s>a <image>b"], images=[picture(1)], return_tensors="pt")
    encoder = CLIPVisionModel.from_pretrained(parts.encoder)
    hidden = encoder(inputs["pixel_values"], output_hidden_states=True).hidden_states
    features = model.get_image_features(inputs["pixel_values"]).last_hidden_state
    torch.testing.assert_close(features, torch.cat([hidden[i][:, 1:] for i in (1, 2, 4)], dim=1))
    assert len(model.model.vision_tower.encoder.layers) == 4  # the fifth would run for nothing

    language = LlamaForCausalLM.from_pretrained(parts.language_model)
    ids = processor(text=["<s>text alone"], return_tensors="pt")["input_ids"]
    torch.testing.assert_close(model(input_ids=ids).logits[..., :-1], language(input_ids=ids).logits)


@torch.no_grad()
def test_the_placeholder_is_new_and_never_said(parts, picture):
    model, processor = build_model(parts)
    language = LlamaForCausalLM.from_pretrained(parts.language_model)
    assert processor.image_token_id == model.config.image_token_id == language.config.vocab_size
    assert model.config.text_config.vocab_size == language.config.vocab_size + 1 == model.lm_head.out_features
    inputs = processor(text=["<s>a <image>b"], images=[picture(1)], return_tensors="pt")
    assert not (model.eval()(**inputs).logits.argmax(-1) == processor.image_token_id).any()


def test_a_joined_model_answers_stops_and_is_saved(parts, picture, tmp_path):
    model, processor = build_model(parts)
    assert model.generation_config.eos_token_id == [2, 3]
    assert not model.generation_config.do_sample
    content = [{"type": "image", "image": picture(1)}, {"type": "text", "text": "where?"}]
    chat = [{"role": "user", "content": content}]
    how = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    inputs = processor.apply_chat_template(chat, **how)
    out = model.eval().generate(**inputs, max_new_tokens=4)
    model.save_pretrained(tmp_path / "out")
    processor.save_pretrained(tmp_path / "out")
    again = LHRSForConditionalGeneration.from_pretrained(tmp_path / "out")
    inputs = LHRSProcessor.from_pretrained(tmp_path / "out").apply_chat_template(chat, **how)
    assert torch.equal(again.generate(**inputs, max_new_tokens=4), out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_weights_are_real_and_of_one_type(parts, dtype):
    model, _ = build_model(parts, dtype=dtype)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    assert not [name for name, value in tensors if value.is_meta]
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_the_bridge_begins_as_the_papers_say(parts):
    torch.manual_seed(0)
    model, _ = build_model(parts, hidden_size=64)
    bridge = model.model.bridge
    assert float(bridge.query.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert bridge.layers[0].mlp.up.bias.eq(0).all() and bridge.layers[0].query_norm.weight.eq(1).all()
    assert bridge.in_proj[0].weight.shape == (64, 16)  # another width than the encoder's


def test_parts_may_be_replaced(parts, tmp_path, picture):
    config = TimmWrapperConfig(
        architecture="resnet18", model_args={"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}
    )
    TimmWrapperModel(config).save_pretrained(tmp_path / "timm")
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "timm")
    model, processor = build_model(parts, encoder=tmp_path / "timm", num_experts=2)
    assert model.config.bridge_config.level_sizes == [8, 16, 32]
    inputs = processor(text=["<s><image>"], images=[picture(1)], return_tensors="pt")
    assert model.eval()(**inputs).logits.isfinite().all()


def test_encoders_without_the_tapped_level_are_refused(parts):
    with pytest.raises(CheckpointError, match="has 5 layers; level 9 cannot be tapped"):
        build_model(Preset(parts.encoder, parts.language_model, (1, 2, 9), BRIDGE, "llama3"))


def test_parts_without_weights_are_refused(parts, tmp_path):
    folder = tmp_path / "language"
    model = LlamaForCausalLM.from_pretrained(folder)
    state = {name: value for name, value in model.state_dict().items() if "layers.1" not in name}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(CheckpointError, match="language lacks 9 weights of LlamaForCausalLM"):
        build_model(parts)


def test_presets_name_the_published_parts():
    assert get_preset("lhrs-bot-7b").encoder == "openai/clip-vit-large-patch14"
    assert get_preset("lhrs-bot-nova-8b").language_model == "meta-llama/Meta-Llama-3-8B-Instruct"
    with pytest.raises(ConfigError, match="unknown preset 'lhrs-bot'; known: lhrs-bot-7b, lhrs-bot-nova-8b"):
        get_preset("lhrs-bot")


def test_a_build_without_the_embedded_model_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(presets, "files", lambda package: tmp_path)
    with pytest.raises(CheckpointError, match="does not contain lhrs-nano"):
        nano_folder()
    (tmp_path / "resources" / "lhrs-nano").mkdir(parents=True)
    (tmp_path / "resources" / "lhrs-nano" / "config.json").touch()
    assert nano_folder() == tmp_path / "resources" / "lhrs-nano"


CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "where?"}, {"type": "image"}]},
    {"role": "assistant", "content": "Here."},
    {"role": "user", "content": "sure?"},
    {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
]
LLAMA_2 = "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n<image>\nwhere? [/INST] Here. </s><s>[INST] sure? [/INST] Yes. </s>"
LLAMA_3 = (
    "<s><s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n<image>\nwhere?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHere.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nsure?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>"
)
CHATML = (
    "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n<image>\nwhere?<|im_end|>\n"
    "<|im_start|>assistant\nHere.<|im_end|>\n<|im_start|>user\nsure?<|im_end|>\n"
    "<|im_start|>assistant\nYes.<|im_end|>\n"
)


@pytest.mark.parametrize(
    ("name", "text", "answers"),
    [
        ("llava_llama_2", LLAMA_2, [" Here. </s>", " Yes. </s>"]),
        ("llama3", LLAMA_3, ["Here.<|eot_id|>", "Yes.<|eot_id|>"]),
        ("chatml", CHATML, ["Here.<|im_end|>", "Yes.<|im_end|>"]),
        ("plain", "<s><image>Here.\nYes.\n", ["Here.\nYes.\n"]),
    ],
)
def test_chats_are_written_as_the_original_models_read_them(tokenizer, name, text, answers):
    tokenizer.chat_template = chat_template(name)
    assert tokenizer.apply_chat_template(CHAT, tokenize=False) == text
    marked = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    learned = [i for i, mask in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(learned) == "".join(answers)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("llava_llama_2", "sure? [/INST]"),
        ("llama3", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("chatml", "<|im_start|>assistant\n"),
    ],
)
def test_prompts_end_where_the_answer_begins(tokenizer, name, end):
    tokenizer.chat_template = chat_template(name)
    assert tokenizer.apply_chat_template(CHAT[:-1], tokenize=False, add_generation_prompt=True).endswith(end)


def test_chats_need_no_system_text(tokenizer):
    chat = [{"role": "user", "content": "hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<s>[INST] hi [/INST]"
    tokenizer.chat_template = chat_template("llama3")
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == "<s><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"


def test_unknown_chat_templates_are_named():
    with pytest.raises(
        ConfigError, match="unknown chat template 'vicuna'; known: chatml, compact, llama3, llava_llama_2"
    ):
        chat_template("vicuna")


def test_every_preset_has_its_chat_template():
    for preset in PRESETS.values():
        assert "generation" in chat_template(preset.chat)


def with_chat(parts, chat):
    return Preset(**{**vars(parts), "chat": str(chat)})


def test_a_template_of_ones_own_decides_where_answers_end(parts, tmp_path):
    own = tmp_path / "own.jinja"
    own.write_text(
        "{% for m in messages %}{% generation %}{{ m.content[0].text }}<|eot_id|>{% endgeneration %}{% endfor %}"
    )
    model, processor = build_model(with_chat(parts, own))
    assert processor.chat_template == own.read_text()
    assert model.generation_config.eos_token_id == [2, 3]


def test_templates_that_no_answer_can_end_by_are_refused(parts, tmp_path):
    with pytest.raises(ConfigError, match=r"ends answers with '<\|im_end\|>', which is no token of"):
        build_model(with_chat(parts, "chatml"))
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for m in messages %}")
    with pytest.raises(ConfigError, match="cannot be rendered"):
        build_model(with_chat(parts, broken))
    with pytest.raises(ConfigError, match=r"none\.jinja cannot be read"):
        build_model(with_chat(parts, tmp_path / "none.jinja"))

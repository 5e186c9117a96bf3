"""Modules of one's own become folders that a run file names: a timm encoder, a GGUF language model."""

import numpy as np
import pytest
import timm
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lhrs.errors import CheckpointError, ConfigError
from lhrs.models.importers.modules import convert_gguf, convert_timm
from lhrs.models.processing import load_image_processor
from lhrs.models.timm_io import read_timm_folder

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(1)
    return timm.create_model(LITE0).eval()


def write(path, state):
    torch.save(state, path)
    return path


def check(folder, model):
    state, config = read_timm_folder(folder)
    expected = model.state_dict()
    assert state.keys() == {name for name in expected if not name.startswith("classifier.")}
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert config["architecture"] == LITE0
    processor = load_image_processor(str(folder))
    assert processor.size["height"] == 224 and list(processor.image_mean) == list(processor.image_std) == [0.5] * 3


def test_timm_weights_become_an_encoder(lite0, tmp_path):
    weights = write(tmp_path / "w.pth", {"state_dict": {f"module.{n}": v for n, v in lite0.state_dict().items()}})
    report = convert_timm(weights, LITE0, tmp_path / "out")
    check(tmp_path / "out", lite0)
    assert report[-1] == (
        "levels: 0 (16 channels), 1 (24 channels), 2 (40 channels), 3 (112 channels), 4 (320 channels)"
    )
    with pytest.raises(CheckpointError, match="out exists"):
        convert_timm(weights, LITE0, tmp_path / "out")
    with pytest.raises(ConfigError, match="timm has no model 'lite0'"):
        convert_timm(weights, "lite0", tmp_path / "other")


def test_weights_with_other_names_are_taken_by_position_on_request(lite0, tmp_path):
    renamed = {f"_layer_{n}": value for n, value in enumerate(lite0.state_dict().values())}
    weights = write(tmp_path / "w.pth", renamed)
    with pytest.raises(CheckpointError, match=r"does not fit.* --by-order takes them by position"):
        convert_timm(weights, LITE0, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert_timm(weights, LITE0, tmp_path / "out", by_order=True)
    check(tmp_path / "out", lite0)
    turned = write(tmp_path / "turned.pth", dict(reversed(renamed.items())))
    with pytest.raises(CheckpointError, match=f"does not have {LITE0}'s order: _layer_"):
        convert_timm(turned, LITE0, tmp_path / "turned", by_order=True)


def test_a_gguf_file_becomes_a_language_model(tmp_path):
    gguf = pytest.importorskip("gguf")
    rng, width, inner, vocab = np.random.default_rng(0), 32, 48, 300
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *letters, "ab", *(f"w{n}" for n in range(vocab - 98))]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_merges(["a b"])
    writer.add_token_types([3, 3, 3, *[1] * (vocab - 3)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {
        "token_embd.weight": (vocab, width), "output_norm.weight": (width,), "blk.0.attn_norm.weight": (width,),
        "blk.0.ffn_norm.weight": (width,), "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width // 2, width), "blk.0.attn_v.weight": (width // 2, width),
        "blk.0.attn_output.weight": (width, width), "blk.0.ffn_gate.weight": (inner, width),
        "blk.0.ffn_up.weight": (inner, width), "blk.0.ffn_down.weight": (width, inner),
    }  # fmt: skip
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    report = convert_gguf(tmp_path / "tiny.gguf", tmp_path / "out", torch.float32)
    assert report[0].startswith("llama: ") and report[0].endswith("300 tokens")
    model, tokenizer = (auto.from_pretrained(tmp_path / "out") for auto in (AutoModelForCausalLM, AutoTokenizer))
    assert model.config.num_key_value_heads == 2 and tokenizer.convert_tokens_to_ids("<|im_end|>") == 2
    down = model.model.layers[0].mlp.down_proj.weight.detach().numpy()
    assert np.array_equal(down, tensors["blk.0.ffn_down.weight"])
    assert model(input_ids=torch.tensor([[1, 5, 7]])).logits.shape == (1, 3, 300)


def test_what_is_no_gguf_is_refused(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUFnonsense")
    for name in ("a.gguf", "missing.gguf"):
        with pytest.raises(CheckpointError, match=name):
            convert_gguf(tmp_path / name, tmp_path / "out", torch.float32)

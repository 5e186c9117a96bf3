"""What is saved is what is loaded, through transformers' own doors."""

import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    GPT2Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from lhrs.errors import ConfigError
from lhrs.models import LHRSConfig, LHRSForConditionalGeneration, LHRSProcessor


def reload(model, folder, **kwargs):
    model.save_pretrained(folder, **kwargs)
    again, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert type(again) is LHRSForConditionalGeneration
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return again.eval()


@pytest.mark.parametrize("encoder", ["clip", "siglip", "timm_cnn", "timm_vit"])
@pytest.mark.parametrize("style", ["v1", "nova"])
@torch.no_grad()
def test_every_encoder_and_bridge_comes_back_equal(make_model, inputs, tmp_path, encoder, style):
    model = make_model(encoder, style)
    assert torch.equal(reload(model, tmp_path)(**inputs).logits, model(**inputs).logits)


@torch.no_grad()
def test_sharded_weights_come_back_equal(make_model, inputs, tmp_path):
    model = make_model(num_experts=4)
    again = reload(model, tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


@torch.no_grad()
def test_trained_grid_queries_are_not_set_back_on_loading(make_model, inputs, tmp_path):
    model = make_model(style="nova", queries=[4, 4, 1], query_init="grid")  # the fixture makes all weights random
    assert torch.equal(reload(model, tmp_path).model.bridge.query, model.model.bridge.query)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "language",
    [
        lambda vocab, tied: GPT2Config(
            vocab_size=vocab, n_embd=32, n_layer=2, n_head=2, n_positions=128, tie_word_embeddings=tied
        ),
        lambda vocab, tied: Qwen2Config(
            vocab_size=vocab,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=tied,
        ),
    ],
    ids=["gpt2", "qwen2"],
)
@torch.no_grad()
def test_other_language_models_work_tied_or_not(make_model, tokenizer, inputs, tmp_path, language, tied):
    model = make_model(text=language(len(tokenizer), tied))
    again = reload(model, tmp_path)
    for m in (model, again):
        assert (m.lm_head.weight.data_ptr() == m.get_input_embeddings().weight.data_ptr()) is tied
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


@torch.no_grad()
def test_half_precision_is_kept(make_model, inputs, tmp_path):
    make_model().to(torch.bfloat16).save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}


def test_configurations_come_back_equal(make_model, tmp_path):
    config = make_model("siglip", "nova", num_experts=4).config
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is LHRSConfig
    assert again.levels == [1, 2, 4] and again.image_token_id == config.image_token_id
    assert again.bridge_config.to_dict() == config.bridge_config.to_dict()
    assert type(again.vision_config) is type(config.vision_config)
    assert again.text_config.vocab_size == config.text_config.vocab_size


def test_the_model_without_head_is_registered_too(make_model):
    assert type(AutoModel.from_config(make_model().config)).__name__ == "LHRSModel"


def test_processors_come_back_equal(processor, picture, tmp_path):
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is LHRSProcessor
    chat = [{"role": "user", "content": [{"type": "image", "image": picture(1)}, {"type": "text", "text": "where?"}]}]
    first, second = (
        p.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt") for p in (processor, again)
    )
    assert torch.equal(first["input_ids"], second["input_ids"])
    # transformers may reload the image processor with another backend, which rounds to the next of 256 levels
    torch.testing.assert_close(first["pixel_values"], second["pixel_values"], atol=1.01 / 127.5, rtol=0)


def test_a_tokenizer_without_the_placeholder_is_refused():
    stranger = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    with pytest.raises(ConfigError, match="does not know '<image>'"):
        LHRSProcessor(None, stranger)


def test_without_torch_the_family_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import lhrs.models"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "lhrs.errors.MissingExtraError: models need torch: pip install 'lhrs[torch]'"

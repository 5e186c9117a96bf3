"""Conversations without images train the language model of a joined model, such as a small one made from nothing."""

import pytest
import torch
from tests.training.tiny import load_model_files, losses, stage_settings, write_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from lhrs.data.chat_dataset import ChatEncoder
from lhrs.errors import ConfigError
from lhrs.instruct.queries import query_samples, write_queries
from lhrs.models.load import load_model
from lhrs.models.presets import chat_template
from lhrs.models.small_language import build_language_model, train_tokenizer
from lhrs.training.dispatch import load_run, train

SIZES = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def texts():
    return [turn.text for sample in query_samples(200) for turn in sample.turns]


@pytest.fixture(scope="module")
def language(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("small") / "language"
    build_language_model(texts, folder, **SIZES)
    return folder


def test_the_folder_is_a_language_model_of_transformers(language):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(language), AutoTokenizer.from_pretrained(language)
    assert model.config.vocab_size == len(tokenizer) == SIZES["vocab_size"]
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_text_is_lower_case_and_digits_are_single(language):
    tokenizer = AutoTokenizer.from_pretrained(language)
    assert tokenizer("How MANY Houses?")["input_ids"] == tokenizer("how many houses?")["input_ids"]
    assert tokenizer.tokenize("1984") == ["1", "9", "8", "4"]
    assert tokenizer.decode(tokenizer("where is the café?")["input_ids"]) == "where is the café?"


def test_the_first_word_of_a_question_has_the_tokens_of_any_other_place(language):
    tokenizer = AutoTokenizer.from_pretrained(language)
    chat = [{"role": "user", "content": "houses?"}, {"role": "assistant", "content": "presence: houses"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    assert text == "<bos><user> houses?<answer>presence: houses<eos>"
    parts = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in chat]
    assert tokenizer.apply_chat_template(parts, tokenize=False) == text


def test_weights_depend_on_the_seed(tmp_path, texts):
    one, same, other = (
        build_language_model(texts[:50], tmp_path / str(n), **SIZES, seed=seed) for n, seed in enumerate((0, 0, 1))
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


def test_wrong_sizes_are_named(tmp_path, texts):
    with pytest.raises(ConfigError, match="vocab_size is 100"):
        train_tokenizer(texts, 100)
    with pytest.raises(ConfigError, match="hidden_size 30"):
        build_language_model(texts, tmp_path / "model", hidden_size=30, num_heads=4)


def test_queries_train_the_language_model_without_images(tmp_path, parts, language):
    data = tmp_path / "queries.jsonl"
    write_queries(data, 300, seed=0)
    model = {**parts, "language_model": str(language), "chat_template": "compact"}
    settings = stage_settings(1, data, model=model, trainable=["language_model"], output_dir=str(tmp_path / "run"))
    del settings["chat_template"]
    settings["optim"] |= {"steps": 40, "batch_size": 16, "lr": 1e-2, "optimizer": "adamw"}
    settings["optim"].pop("betas", None)
    train(load_run(write_run(tmp_path / "run.yaml", settings)))
    loss = losses(tmp_path / "run")
    assert sum(loss[-5:]) / 5 < 0.75 * loss[0]
    trained = load_model_files(tmp_path / "run/model")
    before = AutoModelForCausalLM.from_pretrained(language).state_dict()["model.layers.0.mlp.up_proj.weight"]
    name = next(name for name in trained if name.endswith("language_model.layers.0.mlp.up_proj.weight"))
    assert not torch.equal(trained[name].float(), before)
    joined, processor = load_model(tmp_path / "run/model")
    sample = next(query_samples(1, seed=9))
    row = ChatEncoder(processor).encode(sample)
    assert joined(input_ids=row["input_ids"][None]).logits.isfinite().all()
    assert processor.tokenizer.chat_template == chat_template("compact")

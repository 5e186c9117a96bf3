"""Small language models with random weights, and tokenizers trained for them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lhrs.atomic_io import atomic_dir
from lhrs.errors import ConfigError
from lhrs.models.presets import chat_template
from lhrs.models.processing import IMAGE_TOKEN

CHAT = "compact"
"""Chat template of these models, see `lhrs.models.presets.chat_template`."""
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", IMAGE_TOKEN, "<user>", "<answer>")
_MIN_VOCABULARY = 256 + len(SPECIAL_TOKENS)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer. Text is lower-cased, and every digit is a token.

    Args:
        texts: Text like that of questions and answers.
        vocab_size: Tokens at most, special ones and all bytes included.

    Raises:
        ConfigError: `vocab_size` is too small for all bytes.
    """
    if vocab_size < _MIN_VOCABULARY:
        raise ConfigError(f"vocab_size is {vocab_size}, but the bytes and special tokens need {_MIN_VOCABULARY}.")
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        padding_side="left",
        chat_template=chat_template(CHAT),
        clean_up_tokenization_spaces=False,
    )


def build_language_model(
    texts: Sequence[str],
    folder: Path,
    *,
    vocab_size: int = 2048,
    hidden_size: int = 256,
    intermediate_size: int = 704,
    num_layers: int = 4,
    num_heads: int = 4,
    max_length: int = 1024,
    seed: int = 0,
) -> LlamaForCausalLM:
    """Write a Llama with random weights and its tokenizer to a folder of transformers, and return the model.

    The folder is what `model.language_model` of a run file, or `build_model`, takes.

    Args:
        texts: What the tokenizer is trained on, see `train_tokenizer`.
        folder: A new folder.
        vocab_size: Tokens at most.
        hidden_size: Width; a multiple of `num_heads`.
        intermediate_size: Width of the gated layers.
        num_layers: Depth.
        num_heads: Attention heads.
        max_length: Longest sequence in tokens.
        seed: Of the weights.

    Raises:
        ConfigError: The sizes are wrong.
    """
    if hidden_size % (2 * num_heads):
        raise ConfigError(f"hidden_size {hidden_size} is not divisible by twice num_heads {num_heads}.")
    tokenizer = train_tokenizer(texts, vocab_size)
    ids: dict[str, Any] = {
        f"{name}_token_id": cast(int, tokenizer.convert_tokens_to_ids(f"<{name}>")) for name in ("bos", "eos", "pad")
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        **ids,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=False, **ids)
    with atomic_dir(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return model

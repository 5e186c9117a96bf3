"""Tiny parts of every kind that the family supports."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast, SiglipVisionConfig, TimmWrapperConfig

from lhrs.models.presets import chat_template

SIDE = 32  # pixels
VIT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
ENCODERS = {
    "clip": lambda: CLIPVisionConfig(**VIT, image_size=SIDE, patch_size=8),
    "siglip": lambda: SiglipVisionConfig(**VIT, image_size=SIDE, patch_size=8),
    "timm_cnn": lambda: TimmWrapperConfig(
        architecture="resnet18", model_args={"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}
    ),
    "timm_vit": lambda: TimmWrapperConfig(
        architecture="vit_tiny_patch16_224",
        model_args={"img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2},
    ),
}
LEVELS = {"clip": [1, 2, 4], "siglip": [1, 2, 4], "timm_cnn": [2, 3, 4], "timm_vit": [0, 1, 3]}
BRIDGES = {
    "v1": {"queries": [4, 3, 2], "keys_include_queries": True},
    "nova": {"queries": [5, 3, 1], "key_positions": "sincos2d", "outer_norms": True},
}
NUM_TOKENS = 9  # per image, in both


def byte_tokenizer(specials: list[str]) -> PreTrainedTokenizerFast:
    """One token a byte."""
    words = ["<pad>", "<s>", "</s>", *specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=specials,
        padding_side="left",
        chat_template=chat_template("llava_llama_2"),
    )


def llama(vocab_size: int, **changes) -> LlamaConfig:
    return LlamaConfig(
        **{
            "vocab_size": vocab_size,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            **changes,
        }
    )

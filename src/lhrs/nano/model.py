"""lhrs-nano: the embedded model. A timm ResNet, the Nova-style bridge at three levels, and a small Llama."""

from collections.abc import Callable
from typing import Any, cast

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast, SiglipImageProcessorPil, TimmWrapperConfig
from transformers.image_utils import PILImageResampling

from lhrs.models.configuration import LHRSBridgeConfig, LHRSConfig
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor

IMAGE_SIZE = 128
"""Side in pixels of the square that every image is resized to."""
NUM_LOCATIONS = 64
"""Location tokens `<loc_0>` ... per axis; boxes are four of them."""
SPECIAL = ["<pad>", "<bos>", "<eos>", "<image>", "<user>", "<answer>", *(f"<loc_{i}>" for i in range(NUM_LOCATIONS))]

ENCODER = {
    "architecture": "resnet18",
    "model_args": {"layers": [1, 2, 2, 1], "channels": [48, 96, 192, 384], "stem_type": "deep", "stem_width": 16},
}
LEVELS = [2, 3, 4]
LEVEL_SIZES = [96, 192, 384]

CHAT_TEMPLATE = (
    "<bos>{% for m in messages %}"
    "{% if m.role == 'assistant' %}"
    "<answer>{% generation %}{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{{ c.text }}"
    "{% endfor %}{% endif %}<eos>{% endgeneration %}"
    "{% else %}<user>{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}"
    "{% endif %}{% endfor %}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<answer>{% endif %}"
)
"""Images come first, so that many questions about an image share its prefix."""


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE of the embedded model; text is lower-cased, so case never matters."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[a-z]+| ?[0-9]+| ?[^\sa-z0-9]|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=SPECIAL[3:],
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_nano(tokenizer: PreTrainedTokenizerFast, **text: Any) -> tuple[LHRSForConditionalGeneration, LHRSProcessor]:
    """Return the embedded model with random weights, and its processor.

    Args:
        tokenizer: from `train_tokenizer`.
        text: overrides of the language model's sizes.
    """
    ids = cast(Callable[[str], int], tokenizer.convert_tokens_to_ids)
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4, **text}
    language = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=ids("<bos>"),
        eos_token_id=ids("<eos>"),
        pad_token_id=ids("<pad>"),
        **sizes,
    )
    bridge = LHRSBridgeConfig(
        queries=[64, 16, 4],
        hidden_size=192,
        level_sizes=LEVEL_SIZES,
        num_layers=2,
        num_heads=4,
        key_positions="sincos2d",
        outer_norms=True,
        query_init="grid",
    )
    encoder: dict[str, Any] = dict(ENCODER)
    config = LHRSConfig(TimmWrapperConfig(**encoder), language, bridge, levels=LEVELS, image_token_id=ids("<image>"))
    model = LHRSForConditionalGeneration(config)
    model.generation_config.update(
        bos_token_id=ids("<bos>"),
        eos_token_id=ids("<eos>"),
        pad_token_id=ids("<pad>"),
        do_sample=False,
        max_new_tokens=112,
    )
    image_processor = SiglipImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, resample=PILImageResampling.BILINEAR
    )
    return model, LHRSProcessor(image_processor, tokenizer, num_image_tokens=bridge.num_tokens)

"""Tiny models of other families with random weights, saved as their hub repositories are laid out."""

from pathlib import Path

import torch
from tests.models.tiny import byte_tokenizer, llama
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    InternVLConfig,
    InternVLProcessor,
    LlavaConfig,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMProcessor,
)

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|im_start|>", "<|im_end|>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}IMAGE"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _ids(tokenizer, **names: str) -> dict[str, int]:
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in names.items()}


def _qwen(config_class, processor_class, vision: dict):
    tokenizer = byte_tokenizer(QWEN_TOKENS)
    tokenizer.chat_template = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    text = llama(len(tokenizer), max_position_embeddings=4096, num_key_value_heads=2).to_dict()
    text = {k: v for k, v in text.items() if k not in {"model_type", "architectures", "rope_parameters"}}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    ids = _ids(tokenizer, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>",
               vision_start_token_id="<|vision_start|>", vision_end_token_id="<|vision_end|>")  # fmt: skip
    config = config_class(text_config=text, vision_config=vision, **ids)
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16})
    return config, processor_class(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=tokenizer.chat_template)


def qwen2_vl():
    vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 32, "mlp_ratio": 2, "patch_size": 14}
    return _qwen(Qwen2VLConfig, Qwen2VLProcessor, vision)


def qwen2_5_vl():
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32,
              "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56}  # fmt: skip
    return _qwen(Qwen2_5_VLConfig, Qwen2_5_VLProcessor, vision)


def llava():
    tokenizer = byte_tokenizer(["<image>", "<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHAT.replace("IMAGE", "<image>")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VIT, image_size=28, patch_size=14),
        text_config=llama(len(tokenizer)),
        vision_feature_layer=-1,
        **_ids(tokenizer, image_token_index="<image>"),
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )  # fmt: skip
    return config, processor


def smolvlm():
    tokenizer = byte_tokenizer(["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>",
                                "<|im_start|>", "<|im_end|>"])  # fmt: skip
    tokenizer.chat_template = CHAT.replace("IMAGE", "<image>")
    config = SmolVLMConfig(
        vision_config={**VIT, "image_size": 28, "patch_size": 14},
        text_config=llama(len(tokenizer)),
        scale_factor=2,
        **_ids(tokenizer, image_token_id="<image>"),
    )
    from transformers import SmolVLMImageProcessorPil, SmolVLMVideoProcessor

    size = {"longest_edge": 28}
    images = SmolVLMImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    video = SmolVLMVideoProcessor(size=size, max_image_size=size)
    return config, SmolVLMProcessor(images, tokenizer, video, image_seq_len=1, chat_template=tokenizer.chat_template)


def internvl():
    tokenizer = byte_tokenizer(["<image>", "<IMG_CONTEXT>", "<img>", "</img>", "<video>", "<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = CHAT.replace("IMAGE", "<IMG_CONTEXT>")
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tokenizer._set_model_specific_special_tokens(special_tokens=names)
    tokenizer.init_kwargs["extra_special_tokens"] = names
    config = InternVLConfig(
        vision_config={**VIT, "image_size": [28, 28], "patch_size": [14, 14]},
        text_config=llama(len(tokenizer)),
        downsample_ratio=0.5,
        **_ids(tokenizer, image_token_id="<IMG_CONTEXT>"),
    )
    from transformers import GotOcr2ImageProcessorPil, InternVLVideoProcessor

    images = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, crop_to_patches=False)
    video = InternVLVideoProcessor(size={"height": 28, "width": 28})
    return config, InternVLProcessor(images, tokenizer, video, image_seq_length=1,
                                     chat_template=tokenizer.chat_template)  # fmt: skip


FAMILIES = {f.__name__: f for f in (qwen2_vl, qwen2_5_vl, llava, smolvlm, internvl)}


def save(family: str, folder: Path) -> Path:
    """Write a tiny model of a family and its processor."""
    torch.manual_seed(0)
    config, processor = FAMILIES[family]()
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2)
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder

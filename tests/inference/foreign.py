"""Tiny models of other families with random weights, saved as their hub repositories are laid out."""

from pathlib import Path

import torch
from tests.models.tiny import byte_tokenizer, llama
from transformers import (
    AutoModelForImageTextToText,
    BartConfig,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Florence2Config,
    Florence2Processor,
    Gemma3Config,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    Glm4vConfig,
    Glm4vImageProcessorPil,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    InternVLConfig,
    InternVLProcessor,
    Lfm2VlConfig,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    LlavaConfig,
    LlavaProcessor,
    MiniCPMV4_6Config,
    MiniCPMV4_6ImageProcessorPil,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
    Molmo2Config,
    Molmo2ImageProcessor,
    Molmo2Processor,
    Molmo2VideoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMProcessor,
)

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
         "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
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


def _named(tokenizer, **names: str):
    """Let a tokenizer know its special tokens by the names that processors use."""
    tokenizer._set_model_specific_special_tokens(special_tokens=names)
    tokenizer.init_kwargs["extra_special_tokens"] = names
    return tokenizer


def gemma3():
    names = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = _named(byte_tokenizer([*names.values(), "<|im_start|>", "<|im_end|>"]), **names)
    tokenizer.chat_template = CHAT.replace("IMAGE", "<start_of_image>")
    text = {**SMALL, "vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 256}
    config = Gemma3Config(
        text_config=text,
        vision_config=SiglipVisionConfig(**VIT, image_size=28, patch_size=14),
        mm_tokens_per_image=1,
        **_ids(tokenizer, boi_token_index="<start_of_image>", eoi_token_index="<end_of_image>",
               image_token_index="<image_soft_token>"),
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    return config, Gemma3Processor(images, tokenizer, tokenizer.chat_template, image_seq_length=1)


def glm4v():
    tokens = ["<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>",
              "<|end_of_video|>", "<|im_start|>", "<|im_end|>"]  # fmt: skip
    tokenizer = byte_tokenizer(tokens)
    tokenizer.chat_template = CHAT.replace("IMAGE", "<|begin_of_image|><|image|><|end_of_image|>")
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = Glm4vConfig(
        text_config={**SMALL, "vocab_size": len(tokenizer), "num_key_value_heads": 1, "rope_parameters": rope},
        vision_config={"depth": 2, "hidden_size": 32, "num_heads": 2, "out_hidden_size": 32, "intermediate_size": 48,
                       "patch_size": 14, "image_size": 56},
        **_ids(tokenizer, image_token_id="<|image|>", video_token_id="<|video|>",
               image_start_token_id="<|begin_of_image|>", image_end_token_id="<|end_of_image|>",
               video_start_token_id="<|begin_of_video|>", video_end_token_id="<|end_of_video|>"),
    )  # fmt: skip
    images = Glm4vImageProcessorPil(size={"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 32})
    return config, Glm4vProcessor(images, tokenizer, Glm4vVideoProcessor(), chat_template=tokenizer.chat_template)


def lfm2_vl():
    tokenizer = byte_tokenizer(["<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", "<|im_start|>",
                                "<|im_end|>"])  # fmt: skip
    tokenizer.chat_template = CHAT.replace("IMAGE", "<image>")
    config = Lfm2VlConfig(
        text_config={**SMALL, "model_type": "lfm2", "vocab_size": len(tokenizer), "num_key_value_heads": 1,
                     "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        vision_config={**VIT, "model_type": "siglip2_vision_model", "patch_size": 14, "num_patches": 16},
        projector_hidden_size=32,
        **_ids(tokenizer, image_token_id="<image>"),
    )  # fmt: skip
    images = Lfm2VlImageProcessor(do_image_splitting=False, encoder_patch_size=14, tile_size=56, min_image_tokens=1,
                                  max_image_tokens=8)  # fmt: skip
    return config, Lfm2VlProcessor(images, tokenizer, tokenizer.chat_template)


def minicpmv4_6():
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "image_start_token": "<image>",
             "image_end_token": "</image>", "slice_start_token": "<slice>", "slice_end_token": "</slice>",
             "image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>"}  # fmt: skip
    tokenizer = _named(byte_tokenizer([*names.values(), "<|im_start|>", "<|im_end|>"]), **names)
    tokenizer.chat_template = CHAT.replace("IMAGE", "<|image_pad|>")
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0, "mrope_section": [2, 3, 3]}
    config = MiniCPMV4_6Config(
        text_config={**SMALL, "model_type": "qwen3_5_text", "vocab_size": len(tokenizer), "num_key_value_heads": 1,
                     "head_dim": 16, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2,
                     "linear_num_value_heads": 2, "layer_types": ["linear_attention", "full_attention"],
                     "rope_parameters": rope},
        vision_config={**VIT, "image_size": 112, "patch_size": 14},
        insert_layer_id=0,
        image_size=112,
        **_ids(tokenizer, image_token_id="<|image_pad|>", video_token_id="<|video_pad|>"),
    )  # fmt: skip
    images = MiniCPMV4_6ImageProcessorPil(slice_mode=False, max_slice_nums=1, scale_resolution=112)
    video = MiniCPMV4_6VideoProcessor(slice_mode=False, max_slice_nums=1, scale_resolution=112)
    return config, MiniCPMV4_6Processor(images, video, tokenizer, chat_template=tokenizer.chat_template)


def molmo2():
    tokens = ["<|image|>", "<|video|>", "<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>",
              "<im_end>", "<frame_end>", "<im_low>", "<|im_start|>", "<|im_end|>"]  # fmt: skip
    tokenizer = byte_tokenizer(tokens)
    tokenizer.chat_template = CHAT.replace("IMAGE", "<|image|>")
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "hidden_size": 32}
    config = Molmo2Config(
        text_config={**SMALL, **heads, "vocab_size": len(tokenizer), "additional_vocab_size": 8,
                     "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        vision_config={**heads, "intermediate_size": 48, "num_hidden_layers": 2, "image_size": [56, 56],
                       "patch_size": 14},
        adapter_config={**heads, "vision_feature_layer": [1, 0], "intermediate_size": 48, "text_hidden_size": 32},
        **_ids(tokenizer, image_start_token_id="<im_start>", low_res_image_start_token_id="<low_res_im_start>",
               image_end_token_id="<im_end>", image_patch_id="<im_patch>", frame_start_token_id="<frame_start>",
               frame_end_token_id="<frame_end>"),
    )  # fmt: skip
    images = Molmo2ImageProcessor(size={"height": 56, "width": 56}, max_crops=2, overlap_margins=[1, 1])
    video = Molmo2VideoProcessor(size={"height": 56, "width": 56})
    return config, Molmo2Processor(images, video, tokenizer, chat_template=tokenizer.chat_template)


def florence2():
    tokenizer = _named(byte_tokenizer(["<image>"]), image_token="<image>")
    tokenizer.chat_template = None
    config = Florence2Config(
        text_config=BartConfig(vocab_size=len(tokenizer), d_model=32, encoder_layers=1, decoder_layers=1,
                               encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=48,
                               decoder_ffn_dim=48, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
                               pad_token_id=0, decoder_start_token_id=2, forced_eos_token_id=None),
        vision_config={"depths": (1, 1, 1, 1), "embed_dim": (8, 16, 24, 32), "num_heads": (1, 2, 2, 2),
                       "num_groups": (1, 2, 2, 2), "window_size": 4, "projection_dim": 32},
        **_ids(tokenizer, image_token_id="<image>"),
    )  # fmt: skip
    size = {"height": 64, "width": 64}
    images = CLIPImageProcessorPil(size=size, do_center_crop=False, image_seq_length=5)
    return config, Florence2Processor(images, tokenizer)


FAMILIES = {
    f.__name__: f
    for f in (
        qwen2_vl, qwen2_5_vl, llava, smolvlm, internvl, gemma3, glm4v, lfm2_vl, minicpmv4_6, molmo2, florence2,
    )
}  # fmt: skip


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

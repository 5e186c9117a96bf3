"""Models that embed images and texts, tiny and random."""

import torch
from tests.models.tiny import SIDE, VIT, byte_tokenizer
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)


def sections(text, vision):
    return {"text_config": text.to_dict(), "vision_config": vision.to_dict()}


def write_model(folder, kind):
    torch.manual_seed(0)
    tokenizer = byte_tokenizer([])
    text = {**VIT, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    vision = {**VIT, "image_size": SIDE, "patch_size": 8}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind == "clip":
        parts = CLIPTextConfig(**text, **ends), CLIPVisionConfig(**vision)
        model = CLIPModel(CLIPConfig(**sections(*parts), projection_dim=12))
    elif kind == "siglip":
        model = SiglipModel(SiglipConfig(**sections(SiglipTextConfig(**text, **ends), SiglipVisionConfig(**vision))))
    else:
        model = Dinov2Model(Dinov2Config(**{k: v for k, v in vision.items() if k != "intermediate_size"}))
    model.save_pretrained(folder)
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    if kind != "dinov2":
        tokenizer.save_pretrained(folder)
    return str(folder)

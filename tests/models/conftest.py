"""Tiny models with random weights large enough to make a difference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from tests.models.tiny import BRIDGES, ENCODERS, LEVELS, NUM_TOKENS, SIDE, byte_tokenizer, llama
from transformers import PreTrainedTokenizerFast, SiglipImageProcessorPil

from lhrs.models import LHRSBridgeConfig, LHRSConfig, LHRSForConditionalGeneration, LHRSProcessor

torch.set_num_threads(1)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(["<image>"])


@pytest.fixture
def processor(tokenizer) -> LHRSProcessor:
    image_processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return LHRSProcessor(image_processor, tokenizer, num_image_tokens=NUM_TOKENS)


@pytest.fixture
def make_model(tokenizer) -> Callable[..., LHRSForConditionalGeneration]:
    """A function from encoder, bridge style and changes to a model in eval mode; equal arguments, equal weights."""

    def make(encoder: str = "clip", style: str = "v1", text=None, **bridge) -> LHRSForConditionalGeneration:
        torch.manual_seed(0)
        settings = {**BRIDGES[style], "hidden_size": 16, "num_layers": 2, "num_heads": 2, **bridge}
        if encoder == "timm_cnn":
            settings["level_sizes"] = [16, 24, 32]
        config = LHRSConfig(
            ENCODERS[encoder](),
            text or llama(len(tokenizer)),
            LHRSBridgeConfig(**settings),
            levels=LEVELS[encoder],
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
        model = LHRSForConditionalGeneration(config)
        with torch.no_grad():
            for weight in model.model.bridge.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.3)
        model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
        return model.eval()

    return make


@pytest.fixture
def picture() -> Callable[[int], Image.Image]:
    """A function from a number to an image of noise, each of another size."""

    def make(seed: int) -> Image.Image:
        rng = np.random.default_rng(seed)
        return Image.fromarray(rng.integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8))

    return make


@pytest.fixture
def inputs(processor, picture):
    """One prompt with two images, one with one, one without, padded on the left."""
    text = ["<s>a <image><image> ?", "<s>what about <image>this one", "<s>no image"]
    return processor(text=text, images=[picture(i) for i in range(3)], padding=True, return_tensors="pt")

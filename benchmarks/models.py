"""The model of about 100 M parameters with random weights that benchmarks run next to lhrs-nano."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast, SiglipImageProcessorPil

from lhrs.inference.load import load
from lhrs.inference.runtime import Runtime
from lhrs.models import LHRSBridgeConfig, LHRSConfig, LHRSForConditionalGeneration, LHRSProcessor
from lhrs.models.export import export
from lhrs.models.presets import chat_template, nano_folder

SIDE = 112


def random_100m() -> tuple[LHRSForConditionalGeneration, LHRSProcessor]:
    """An LHRS-Bot in small: 144 image tokens, a language model of 86 M parameters, lhrs-nano's vocabulary."""
    torch.manual_seed(0)
    words = Tokenizer.from_file(str(nano_folder() / "tokenizer.json"))
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **special, chat_template=chat_template("llava_llama_2"))
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
        num_attention_heads=12, num_key_value_heads=12, max_position_embeddings=2048,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=14,
    )
    bridge = LHRSBridgeConfig(
        queries=[64, 48, 32], hidden_size=256, num_layers=6, num_heads=4, keys_include_queries=True
    )
    config = LHRSConfig(
        vision, text, bridge, levels=[2, 4, 6], image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    model = LHRSForConditionalGeneration(config).eval()
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return model, LHRSProcessor(images, tokenizer, num_image_tokens=144)


def runtimes(folder: Path) -> dict[str, Runtime]:
    """Return the random model, ready to answer with torch and without; it is written to `folder`."""
    model, processor = random_100m()
    model.config.model_family = "lhrs_bot"
    model.save_pretrained(folder / "random")
    processor.save_pretrained(folder / "random")
    export(str(folder / "random"), folder / "onnx", None, None, onnx=True)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return {
        f"{millions:.0f} M random, onnxruntime": load(folder / "onnx").runtime,
        f"{millions:.0f} M random, torch": load(folder / "random", device="cpu").runtime,
    }

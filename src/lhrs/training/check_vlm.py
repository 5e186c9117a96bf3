"""`--check` of a stage of LHRS-Bot or LHRS-Bot-Nova: its mixture, its first sample with labels, and its memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from lhrs.data.chat_dataset import IGNORE, ChatEncoder
from lhrs.data.dataset import Dataset
from lhrs.errors import DataError, ImageError
from lhrs.inference.model_family import get_family
from lhrs.models.presets import chat_template
from lhrs.models.processing import IMAGE_TOKEN
from lhrs.training.check import length_lines
from lhrs.training.freeze import count_parameters, module_of
from lhrs.training.memory import Blocks, MemoryEstimate, estimate_weights
from lhrs.training.meta_model import MetaModel, build_meta_model
from lhrs.training.trainer import split_batch
from lhrs.training.vlm import open_sources
from lhrs.training.vlm_config import VLMConfig

_TRIED = 32
"""Samples of each set that are read, spread evenly."""
_LABEL_START, _LABEL_END = "⟦", "⟧"
_WORST_LETTERS_PER_TOKEN = 3
_QUANTIZED_BYTES = {"8bit": 1.0, "4bit": 0.5}


@dataclass
class _Tried:
    """What reading some samples of a set gave."""

    lengths: list[int]
    """Tokens of each, exact or estimated."""
    num_unreadable: int
    example: str


def check_vlm(config: VLMConfig) -> Iterator[str]:
    """Yield the lines of the report. The previous stage and the model's weights are not needed.

    Raises:
        ConfigError: a setting is wrong.
        CheckpointError: sizes of the model are not known.
        DataError: data is missing or broken.
    """
    sources = open_sources(config)
    meta = build_meta_model(config)
    encoder = _encoder(config, meta)
    tried = [_try(source, encoder, meta) for source in sources]
    num_samples = sum(map(len, sources))
    yield f"run      {config.recipe}, stage {config.stage}, to {config.output_dir}"
    yield from _mixture(config, sources, tried)
    yield from length_lines(config.optim, num_samples)
    yield from _first_sample(sources, encoder, meta)
    total, trainable = count_parameters(meta.stage)
    yield "parameters, in millions"
    for name, count in total.items():
        yield f"  {name:18}{count / 1e6:10.1f}   {'trained' if trainable[name] else 'frozen'}"
    yield from _memory(config, meta, max((n for each in tried for n in each.lengths), default=0)).lines()
    yield from (f"note     {remark}" for remark in meta.remarks)


def _encoder(config: VLMConfig, meta: MetaModel) -> ChatEncoder:
    """Return the encoder of samples; without a tokenizer, one that only renders text."""
    template = None if config.chat_template is None else chat_template(config.chat_template)
    known = getattr(cast(Any, meta.stage.model).config, "model_family", None)
    family = (config.model.family if config.model else None) or known or config.recipe.replace("-", "_")
    processor: Any = meta.processor
    if processor is None:
        words = SimpleNamespace(is_fast=True, special_tokens_map={"bos_token": "<s>", "eos_token": "</s>"})
        processor = SimpleNamespace(
            tokenizer=words, chat_template=None, image_token=IMAGE_TOKEN, num_image_tokens=meta.num_image_tokens
        )
    box_style = get_family(family).box_style
    return ChatEncoder(processor, template, config.system_prompt, config.max_length, box_style=box_style)


def _try(source: Dataset, encoder: ChatEncoder, meta: MetaModel) -> _Tried:
    """Encode some samples of a set."""
    count = min(_TRIED, len(source))
    tried = _Tried([], 0, "")
    for n in range(count):
        sample = source[(2 * n + 1) * len(source) // (2 * count)]
        try:
            if meta.processor is not None:
                tried.lengths.append(len(encoder.encode(sample)["input_ids"]))
                continue
            text, _ = encoder.render(sample)
        except ImageError as error:
            tried.num_unreadable += 1
            tried.example = tried.example or str(error)
            continue
        num_placeholders = text.count(IMAGE_TOKEN)
        letters = len(text) - num_placeholders * len(IMAGE_TOKEN)
        tried.lengths.append(num_placeholders + letters // _WORST_LETTERS_PER_TOKEN)
    return tried


def _mixture(config: VLMConfig, sources: Sequence[Dataset], tried: Sequence[_Tried]) -> Iterator[str]:
    """Yield the table of the sets."""
    counts = np.array([len(source) for source in sources], np.float64)
    whole_epochs = config.optim.steps is None
    parts = counts * [1.0 if whole_epochs else data.weight for data in config.data]
    yield f"data     {int(counts.sum()):,} samples in {len(sources)} sets"
    yield f"  {'set':24}{'samples':>12}{'share':>8}{'weight':>8}{'tokens':>8}"
    for data, source, each, part in zip(config.data, sources, tried, parts / parts.sum(), strict=True):
        mean = f"{np.mean(each.lengths):.0f}" if each.lengths else "-"
        yield f"  {data.name or source.root.name:24}{len(source):12,}{part:8.1%}{data.weight:8g}{mean:>8}"
        if len(source.dropped):
            yield f"    {source.dropped.summary()}"
        if each.num_unreadable:
            num = min(_TRIED, len(source))
            yield f"    {each.num_unreadable} of {num} samples tried have images that cannot be read: {each.example}"
    yield f"  tokens: mean of up to {_TRIED} samples of each set"


def _first_sample(sources: Sequence[Dataset], encoder: ChatEncoder, meta: MetaModel) -> Iterator[str]:
    """Yield the first sample whose images can be read, with marks around what is learned."""
    for source in sources:
        for index in range(min(_TRIED, len(source))):
            sample = source[index]
            try:
                text, spans = encoder.render(sample)
                row = None if meta.processor is None else encoder.encode(sample)
            except ImageError:
                continue
            yield f"first sample, {sample.id} of {sample.source}; labels are between {_LABEL_START} and {_LABEL_END}"
            for image in sample.images:
                yield f"  image: {image}"
            yield from (f"  {line}" for line in _marked(text, spans, meta.num_image_tokens).splitlines())
            if row is not None:
                num = int((row["labels"] != IGNORE).sum())
                yield f"  {len(row['input_ids']):,} tokens, {num:,} of them with labels"
            return
    raise DataError(f"none of the first images of {', '.join(str(s.root) for s in sources)} can be read.")


def _marked(text: str, spans: Sequence[tuple[int, int]], num_image_tokens: int) -> str:
    """Return a text with marks around the answers, and the placeholders of each image written as a count."""
    for start, end in reversed(spans):
        text = f"{text[:start]}{_LABEL_START}{text[start:end]}{_LABEL_END}{text[end:]}"
    if num_image_tokens > 1:
        text = text.replace(IMAGE_TOKEN * num_image_tokens, f"{IMAGE_TOKEN} x {num_image_tokens} ")
    return text


def _memory(config: VLMConfig, meta: MetaModel, num_tokens: int) -> MemoryEstimate:
    """Estimate the memory of one process; `num_tokens` is the longest row seen."""
    model = cast(Any, meta.stage.model)
    dtype = (config.model.dtype if config.model else None) or "bfloat16"
    base = 2.0 if dtype == "bfloat16" else 4.0
    quantized = _QUANTIZED_BYTES.get(config.quantize or "", base)
    num_shards = int(os.environ.get("WORLD_SIZE", 1)) if config.fsdp else 1
    estimate = estimate_weights(
        meta.stage, config.optim,
        lambda name: quantized if module_of(name) == "language_model" and ".layers." in name else base, num_shards,
    )  # fmt: skip
    micro, _ = split_batch(config.optim.batch_size, config.optim.micro_batch_size)
    num_bytes = 2 if config.bf16 else 4
    text, row = model.config.text_config, config.packing_length or min(num_tokens, config.max_length)
    tokens = row if config.packing_length else micro * row
    recomputes = config.gradient_checkpointing
    activations = _language_blocks(text).activations(tokens, num_bytes, recomputes)
    activations += tokens * text.vocab_size * (num_bytes + 8)  # logits, in float32 for the loss, and their gradients
    vision, bridge = model.config.vision_config, model.config.bridge_config
    if hasattr(vision, "patch_size") and hasattr(vision, "num_hidden_layers"):
        patches = micro * (vision.image_size // vision.patch_size) ** 2
        blocks = Blocks(vision.num_hidden_layers, vision.hidden_size, vision.intermediate_size)
        kept = blocks if "vision_tower" in config.trainable else Blocks(1, blocks.hidden_size, blocks.intermediate_size)
        activations += kept.activations(patches, num_bytes, recomputes and kept is blocks)
        if bridge is not None and "bridge" in config.trainable:
            keys = 2 * bridge.num_layers * len(bridge.queries) * patches * bridge.hidden_size
            width = round(bridge.hidden_size * bridge.mlp_ratio) * min(bridge.num_experts, bridge.top_k)
            queries = Blocks(bridge.num_layers, bridge.hidden_size, width)
            activations += queries.activations(micro * bridge.num_tokens, num_bytes, False) + keys * num_bytes
    estimate.activations = activations
    estimate.assumptions = [
        f"micro-batches of {micro} rows of {row:,} tokens (the longest of those tried); longer rows need more",
        f"frozen weights in {config.quantize or dtype}, trained ones in float32, computed in "
        f"{'bfloat16' if config.bf16 else 'float32'}, gradient checkpointing {'on' if recomputes else 'off'}",
        "without the CUDA context, libraries and fragmentation: add 1 to 3 GB",
    ]
    return estimate


def _language_blocks(text: Any) -> Blocks:
    heads = text.num_attention_heads
    key_values = (getattr(text, "num_key_value_heads", None) or heads) * text.hidden_size // heads
    return Blocks(text.num_hidden_layers, text.hidden_size, text.intermediate_size, True, key_values)

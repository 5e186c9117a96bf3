"""A processor of bytes, and what is learned of a row."""

from tests.models.tiny import byte_tokenizer
from transformers import CLIPImageProcessorPil

from lhrs.data.chat_dataset import IGNORE, ChatEncoder
from lhrs.models.processing import LHRSProcessor

NUM_IMAGE_TOKENS = 5
SIDE = 16


def byte_processor() -> LHRSProcessor:
    tokenizer = byte_tokenizer(["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<image>"])
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    return LHRSProcessor(CLIPImageProcessorPil(**size), tokenizer, num_image_tokens=NUM_IMAGE_TOKENS)


def learned_text(encoder: ChatEncoder, row: dict) -> list[str]:
    """Decode the learned stretches of a row."""
    out: list[list[int]] = []
    before = IGNORE
    for label in row["labels"].tolist():
        if label != IGNORE:
            if before == IGNORE:
                out.append([])
            out[-1].append(label)
        before = label
    return [encoder.processor.tokenizer.decode(ids) for ids in out]

"""What vLLM's transformers backend reads from a model and its processor (vllm/model_executor/models/transformers)."""

import torch
from tests.models.tiny import NUM_TOKENS, SIDE
from transformers import AutoModel

from lhrs.models import LHRSForConditionalGeneration


def test_the_parts_it_looks_for(make_model):
    model = make_model()
    assert LHRSForConditionalGeneration._supports_attention_backend
    headless = AutoModel.from_config(model.config)
    assert headless.language_model.config.model_type == "llama" and not hasattr(headless, "lm_head")
    assert headless.get_encoder(modality="image") is headless.vision_tower
    found = headless.get_image_features(pixel_values=torch.zeros(3, 3, SIDE, SIDE), return_dict=True)
    assert found.pooler_output.shape[:2] == (3, NUM_TOKENS)  # it splits them evenly among the images


def test_the_processor_counts_and_places_image_tokens(processor):
    told = processor._get_num_multimodal_tokens(image_sizes=[(40, 50), (8, 8)])
    assert list(told.num_image_tokens) == [NUM_TOKENS] * 2
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    out = processor(images=[image], text=["a <image> b"], return_tensors="pt", return_text_replacement_offsets=True)
    assert (out["input_ids"] == processor.image_token_id).sum() == NUM_TOKENS
    assert "text_replacement_offsets" in out

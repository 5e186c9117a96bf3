"""Images and text in, text out: batches, several images, none, and the ways to run them."""

from itertools import chain

import pytest
import torch
from transformers import AutoModelForImageTextToText, pipeline

NEW = {"max_new_tokens": 6, "do_sample": False}


def prompts(picture):
    """16 prompts of mixed length with none to three images each."""
    text, images = [], []
    for i in range(16):
        count = (0, 1, 3, 2, 1)[i % 5]
        words = "what is here "[: 3 + 5 * i % 11]
        text.append("<s>" + "<image>" * (count // 2) + words + "<image>" * (count - count // 2))
        images.append([picture(10 * i + k) for k in range(count)])
    return text, images


@pytest.mark.parametrize(
    ("encoder", "style", "experts"), [("clip", "v1", 1), ("siglip", "nova", 4)], ids=["v1", "nova with experts"]
)
@torch.no_grad()
def test_sixteen_prompts_at_once_give_what_each_gives_alone(make_model, processor, picture, encoder, style, experts):
    model = make_model(encoder, style, num_experts=experts)
    text, images = prompts(picture)
    together = processor(text=text, images=[*chain(*images)], padding=True, return_tensors="pt")
    assert len(set(together["attention_mask"].sum(1).tolist())) > 8
    batch = model.generate(**together, **NEW)[:, together["input_ids"].shape[1] :]
    answers = set()
    for i in range(16):
        alone = processor(text=[text[i]], images=images[i] or None, return_tensors="pt")
        answer = model.generate(**alone, **NEW)[0, alone["input_ids"].shape[1] :].tolist()
        assert batch[i, : len(answer)].tolist() == answer, text[i]
        answers.add(tuple(answer))
    assert len(answers) > 4  # a model that always says the same would pass too


@torch.no_grad()
def test_each_image_stands_at_its_own_placeholder(make_model, processor, picture):
    model = make_model()
    a, b = picture(1), picture(2)
    text = ["<s>first <image> then <image>."]
    one, other = (model(**processor(text=text, images=pair, return_tensors="pt")).logits for pair in ([a, b], [b, a]))
    before = len("first ") + 1
    assert torch.equal(one[0, :before], other[0, :before])
    assert not torch.allclose(one[0, -1], other[0, -1])


@torch.no_grad()
def test_beams_and_samples_keep_each_prompt_s_own_images(make_model, processor, picture):
    model = make_model()
    text, images = ["<s><image><image>a", "<s><image>b"], [[picture(1), picture(2)], [picture(3)]]
    together = processor(text=text, images=[*chain(*images)], padding=True, return_tensors="pt")
    beams = {"num_beams": 3, "num_return_sequences": 2, "return_dict_in_generate": True, "output_scores": True, **NEW}
    batch = model.generate(**together, **beams)
    for i in range(2):
        alone = processor(text=[text[i]], images=images[i], return_tensors="pt")
        expected = model.generate(**alone, **beams).sequences_scores
        torch.testing.assert_close(batch.sequences_scores[2 * i : 2 * i + 2], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_text_alone_is_the_language_model_alone(make_model, processor):
    model = make_model()
    ids = processor(text=["<s>hello"], return_tensors="pt")["input_ids"]
    hidden = model.model.language_model(input_ids=ids).last_hidden_state
    assert torch.equal(model(input_ids=ids).logits, model.lm_head(hidden))


@torch.no_grad()
def test_embeddings_may_be_given_in_place_of_ids(make_model, inputs):
    model = make_model()
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    logits = model(
        inputs_embeds=embeds, pixel_values=inputs["pixel_values"], attention_mask=inputs["attention_mask"]
    ).logits
    assert torch.equal(logits, model(**inputs).logits)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_processor_refuses_a_wrong_number_of_images(processor, picture, count):
    with pytest.raises(ValueError, match="images"):
        processor(text=["<s><image><image>"], images=[picture(i) for i in range(count)] or None)


def test_the_model_refuses_placeholders_that_were_not_expanded(make_model, inputs):
    inputs["pixel_values"] = inputs["pixel_values"][:2]
    with pytest.raises(ValueError, match="27 image placeholders but the images need 18 \\(9 each\\)"):
        make_model()(**inputs)


@torch.no_grad()
def test_attention_kernels_agree(make_model, inputs, tmp_path):
    make_model().save_pretrained(tmp_path)
    eager, sdpa = (
        AutoModelForImageTextToText.from_pretrained(tmp_path, attn_implementation=kind) for kind in ("eager", "sdpa")
    )
    assert eager.model.language_model.config._attn_implementation == "eager"
    assert eager.model.vision_tower.config._attn_implementation == "eager"
    seen = inputs["attention_mask"].bool()
    torch.testing.assert_close(eager(**inputs).logits[seen], sdpa(**inputs).logits[seen], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_bfloat16_stays_close_to_float32(make_model, inputs):
    model = make_model(num_experts=1)
    seen = inputs["attention_mask"].bool()
    exact = model(**inputs).logits[seen]
    rough = model.to(torch.bfloat16)(**inputs).logits[seen]
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() / exact.norm() < 0.1


@torch.no_grad()
def test_a_float32_bridge_works_between_half_precision_parts(make_model, inputs):
    """Training keeps the bridge in float32 while the frozen parts stay small."""
    model = make_model().to(torch.bfloat16)
    model.model.bridge.float()
    assert model(**inputs).logits.isfinite().all()


OFFLOAD = {"model.vision_tower": "cpu", "model.bridge": "disk", "model.language_model": "disk", "lm_head": "cpu"}


@pytest.mark.parametrize("device_map", ["cpu", "auto", OFFLOAD], ids=["cpu", "auto", "offload"])
@torch.no_grad()
def test_device_maps_give_the_same_numbers(make_model, inputs, tmp_path, device_map):
    model = make_model()
    model.save_pretrained(tmp_path)
    placed = AutoModelForImageTextToText.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload"
    )
    torch.testing.assert_close(placed(**inputs).logits.cpu(), model(**inputs).logits)


def test_the_pipeline_answers_a_chat(make_model, processor, picture):
    ask = pipeline("image-text-to-text", model=make_model(), processor=processor, device="cpu")
    content = [{"type": "image", "image": picture(1)}, {"type": "text", "text": "what is here?"}]
    chat = [{"role": "user", "content": content}]
    answer = ask(text=chat, return_full_text=False, generate_kwargs=NEW)[0]["generated_text"]
    model_inputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")
    out = make_model().generate(**model_inputs, **NEW)[0, model_inputs["input_ids"].shape[1] :]
    assert answer == processor.decode(out, skip_special_tokens=True)

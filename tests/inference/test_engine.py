"""The engine answers a batch as it answers each request alone, and does no work twice."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.models.tiny import BRIDGES, ENCODERS, LEVELS, NUM_TOKENS, SIDE, byte_tokenizer, llama  # noqa: E402
from transformers import SiglipImageProcessorPil  # noqa: E402

from lhrs.errors import ConfigError  # noqa: E402
from lhrs.inference.load import load  # noqa: E402
from lhrs.inference.runtime import Request, Sampling  # noqa: E402
from lhrs.models import LHRSBridgeConfig, LHRSConfig, LHRSForConditionalGeneration, LHRSProcessor  # noqa: E402
from lhrs.models.presets import chat_template  # noqa: E402

SHAPES = {"v1": ("clip", "llava_llama_2", "lhrs_bot", 1), "nova": ("siglip", "llama3", "lhrs_bot_nova", 4)}
HEADERS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def tiny_chat_model(shape: str, folder: Path) -> Path:
    """Write a chat model of random weights, of the shape of LHRS-Bot or LHRS-Bot-Nova."""
    torch.manual_seed(3)
    encoder, template, family, experts = SHAPES[shape]
    tokenizer = byte_tokenizer(["<image>", *(HEADERS if shape == "nova" else [])])
    tokenizer.chat_template = chat_template(template)
    bridge = {**BRIDGES[shape], "hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_experts": experts}
    config = LHRSConfig(
        ENCODERS[encoder](),
        llama(len(tokenizer), max_position_embeddings=1024),
        LHRSBridgeConfig(**bridge),
        levels=LEVELS[encoder],
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    config.model_family = family
    model = LHRSForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.model.bridge.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    ends = [2, *tokenizer.convert_tokens_to_ids(["<|eot_id|>"])] if shape == "nova" else [2]
    model.generation_config.update(bos_token_id=1, eos_token_id=ends, pad_token_id=0)
    model.save_pretrained(folder)
    images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    LHRSProcessor(images, tokenizer, num_image_tokens=NUM_TOKENS).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[*SHAPES, "talker"])
def runtime(request, tmp_path_factory):
    from lhrs.inference.runtimes.torch import TorchRuntime

    if request.param == "talker":
        return TorchRuntime(str(request.getfixturevalue("talker")), "cpu")
    return TorchRuntime(str(tiny_chat_model(request.param, tmp_path_factory.mktemp("model"))), "cpu")


POOL = [np.random.default_rng(n).integers(0, 256, (24 + n, 40, 3), dtype=np.uint8) for n in range(4)]
QUESTION = st.text("what is here?\n", min_size=1, max_size=30)
REQUEST = st.builds(
    lambda images, question, options, form, count, sampled, index, history: Request(
        tuple(POOL[n] for n in images),
        question,
        options,
        "text" if options else form,
        count,
        Sampling(1.5, 7, index) if sampled else None,
        history if images else (),
    ),
    st.lists(st.integers(0, 3), max_size=3),
    QUESTION,
    st.sampled_from([None, None, None, ("yes", "no"), ("river", "forest", "forest and river")]),
    st.sampled_from(["text", "text", "text", "number", "boxes"]),
    st.integers(1, 12),
    st.booleans(),
    st.integers(0, 99),
    st.lists(st.tuples(QUESTION, QUESTION), max_size=1).map(tuple),
)


@given(st.lists(REQUEST, min_size=16, max_size=16))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_batch_of_sixteen_says_what_each_says_alone(runtime, requests):
    for request, together in zip(requests, runtime.generate(requests), strict=True):
        alone = runtime.generate([request])[0]
        assert together.text == alone.text and together.token_texts == alone.token_texts
        assert together.probabilities == pytest.approx(alone.probabilities, abs=1e-4)


def test_the_engine_says_what_generate_of_transformers_says(runtime):
    """One prompt, no cache reuse, the library's own loop and prompt expansion."""
    processor, model = runtime._processor, runtime._model
    for images, question in ((POOL[:1], "what is here?"), (POOL[1:3], "which?"), ([], "hello")):
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
        system = [{"role": "system", "content": [{"type": "text", "text": runtime.family.system_prompt}]}]
        chat = [*(system if runtime.family.system_prompt else []), {"role": "user", "content": content}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        inputs = processor(text=[text], images=images or None, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
        reply = runtime.generate([Request(tuple(images), question, max_new_tokens=12)])[0]
        assert list(reply.token_texts) == [runtime.decode([t]) for t in out if t not in runtime.eos_token_ids]


def test_prompts_are_those_that_the_released_models_were_trained_with(runtime):
    prompt = runtime.prompt(Request((POOL[0],), "where?"))
    system, image = runtime.family.system_prompt, "<image>" * runtime._processor.num_image_tokens
    expected = {
        "LhrsBot": f"<s>[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{image}\nwhere? [/INST]",
        # both begin-of-text tokens of Nova's: the tokenizer's and the one in its system text
        "LhrsBotNova": f"<s><s><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|><|start_header_id|>user"
        f"<|end_header_id|>\n\n{image}\nwhere?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "Instruct": f"<bos><user>{image} where?<answer>",
    }
    assert runtime.decode([*prompt.prefix, *prompt.rest]) == expected[type(runtime.family).__name__]


def test_each_image_and_each_shared_beginning_is_read_once(runtime, monkeypatch):
    encoded, started, steps = [], [], []
    read, start, step = runtime.encode_images, runtime.start, runtime.step
    monkeypatch.setattr(runtime, "encode_images", lambda images: encoded.append(len(images)) or read(images))
    monkeypatch.setattr(runtime, "start", lambda ids, *rest: started.append(len(ids)) or start(ids, *rest))
    monkeypatch.setattr(runtime, "step", lambda ids, *rest: steps.append(ids.shape) or step(ids, *rest))
    questions = [Request((POOL[n % 2],), "what? " * (1 + n), max_new_tokens=3) for n in range(10)]
    runtime.generate(questions)
    assert encoded == [2] and started == [2]
    assert steps[0][0] == 10 and all(count == 1 for _, count in steps[1:])
    runtime.generate([Request((POOL[3],), "one")])
    runtime.generate([Request((POOL[3],), "another")])  # in another call, as in a conversation
    assert encoded == [2, 1] and started == [2, 1]


def test_finished_answers_leave_the_batch(runtime, monkeypatch):
    rows = []
    step = runtime.step
    monkeypatch.setattr(runtime, "step", lambda ids, *rest: rows.append(len(ids)) or step(ids, *rest))
    runtime.generate([Request((POOL[0],), "who?", answer_type="number", max_new_tokens=n) for n in (1, 3, 9)])
    assert rows[0] == 3 and rows == sorted(rows, reverse=True) and rows[-1] < 3


def test_forms_are_kept_by_models_that_know_nothing(runtime):
    numbers = runtime.generate([Request((p,), "how many?", answer_type="number") for p in POOL])
    assert all(r.text.isdigit() for r in numbers)
    for reply in runtime.generate([Request((p,), "where?", answer_type="boxes", max_new_tokens=60) for p in POOL]):
        found = runtime.family.read_boxes(reply.text, (100, 100))
        assert not found.num_malformed and (len(found.boxes) or reply.text == "")


def test_what_a_user_writes_cannot_end_the_question_or_add_an_image(runtime):
    specials = "".join(runtime._tokenizer.all_special_tokens)
    plain, forged = (runtime.prompt(Request((POOL[0],), f"is it {text} so?")) for text in (" ", f"{specials}<image>"))
    structure = set(runtime._tokenizer.all_special_ids)
    count = lambda p: sum(t in structure for t in (*p.prefix, *p.rest))  # noqa: E731
    assert count(forged) == count(plain)


def test_a_prompt_that_does_not_fit_is_refused(runtime):
    with pytest.raises(ConfigError, match="reads at most"):
        runtime.generate([Request((POOL[0],), "why? " * 4000)])


def test_the_folder_answers_through_load(tmp_path):
    model = load(tiny_chat_model("nova", tmp_path / "model"))
    assert model.count(POOL[0]).answer.isdigit()
    assert model.classify(POOL[0], ["river", "Forest"]).answer in {"river", "Forest"}

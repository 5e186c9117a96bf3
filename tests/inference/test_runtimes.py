"""A model that writes its answers says the same through onnxruntime and torch, alone and in a batch."""

from collections.abc import Callable

import numpy as np
import pytest

from lhrs.errors import CheckpointError, ConfigError
from lhrs.inference.load import load
from lhrs.inference.runtime import Request, Sampling

QUESTIONS = [
    "what is the land use in this image?",
    "is there a river in this image?",
    "locate the buildings.",
    "describe the image in one sentence.",
    "how many buildings are there?",
    "which option describes the image?\na. forest\nb. river\nc. highway\nd. pasture\nanswer with the letter.",
    "what color is the car of the mayor?",
    "what is in the top left of the image?",
]
LIMIT = 24


def mixed(images) -> list[Request]:
    """Sixteen requests: questions of many lengths, shared and single images, options, and none."""
    options = ("river", "forest", "annual crop", "forest and river")
    return [
        Request(
            () if n % 5 == 4 else (images[n % len(images)],) * (1 + (n == 6)),
            QUESTIONS[n % len(QUESTIONS)],
            options if n % 4 == 3 else None,
            LIMIT,
        )
        for n in range(16)
    ]


def test_a_batch_answers_as_single_questions_do(onnx, images):
    requests = mixed(images)
    together = onnx.generate(requests)
    for request, reply in zip(requests, together, strict=True):
        alone = onnx.generate([request])[0]
        assert alone.token_texts == reply.token_texts and alone.text == reply.text
        assert alone.probabilities == pytest.approx(reply.probabilities, abs=1e-4)


def test_torch_and_onnx_agree_token_for_token(onnx, talker, images):
    pytest.importorskip("torch")
    from lhrs.inference.runtimes.torch import TorchRuntime

    runtime = TorchRuntime(str(talker), "cpu")
    requests = mixed(images)
    for ours, theirs in zip(onnx.generate(requests), runtime.generate(requests), strict=True):
        assert ours.token_texts == theirs.token_texts and ours.text == theirs.text
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=2e-3)
    assert runtime.ood_score(images[0]) == pytest.approx(onnx.ood_score(images[0]), rel=1e-3)
    drawn = Request((images[1],), QUESTIONS[3], max_new_tokens=LIMIT, sampling=Sampling(1.0, 7))
    pieces: list[str] = []
    assert runtime.generate([drawn], pieces.append)[0].text == onnx.generate([drawn])[0].text == "".join(pieces)
    with pytest.raises(ConfigError, match="cannot be used"):
        TorchRuntime(str(talker), "cuda:99")


def test_options_share_all_probability(onnx, images):
    options = ("river", "forest", "annual crop")
    reply = onnx.generate([Request((images[0],), "which?", options)])[0]
    assert reply.text in options and 1 / 3 <= reply.sequence_probability <= 1


def test_an_option_comes_back_as_it_was_given_however_the_tokenizer_spells_it(onnx, images):
    options = ("half a km\u00b2", "\uff26ull km\u00b2", "an option that goes on " * 10)  # NFKC turns these into others
    assert onnx.generate([Request((images[0],), "how big?", options, max_new_tokens=4)])[0].text in options


def test_options_that_the_model_cannot_tell_apart_are_refused(onnx, images):
    with pytest.raises(ConfigError, match=r"'km2' is the same as 'km\u00b2'"):
        onnx.generate([Request((images[0],), "which?", ("km\u00b2", "km2"))])


def test_a_question_longer_than_the_model_reads_is_refused(onnx, images):
    with pytest.raises(ConfigError, match="tokens"):
        onnx.generate([Request((images[0],), "why? " * 2000)])


def test_streamed_pieces_make_the_answer(onnx, images):
    pieces: list[str] = []
    reply = onnx.generate([Request((images[0],), QUESTIONS[3], max_new_tokens=LIMIT)], pieces.append)[0]
    assert "".join(pieces) == reply.text


def test_a_remembered_image_answers_as_a_fresh_one(onnx, images):
    ask: Callable = lambda image, question: onnx.generate([Request((image,), question, max_new_tokens=LIMIT)])[0]  # noqa: E731
    remembered = [ask(images[0], question) for question in QUESTIONS]
    for question, first in zip(QUESTIONS, remembered, strict=True):
        ask(images[1], "is it a forest?")
        again = ask(images[0], question)
        assert (again.text, again.probabilities) == (first.text, pytest.approx(first.probabilities, abs=1e-5))


def test_a_remembered_image_is_not_encoded_again(onnx, images, monkeypatch):
    encoded = []
    prepare = onnx.prepare
    monkeypatch.setattr(onnx, "prepare", lambda pixels: encoded.append(1) or prepare(pixels))
    for question in QUESTIONS[:3]:
        onnx.generate([Request((images[2],), question, max_new_tokens=1)])
    assert len(encoded) == 1


def test_a_picture_that_the_caller_changes_is_seen_anew(talker, images):
    assistant, picture = load(talker), images[1].copy()
    first = assistant.ask(picture, QUESTIONS[0], ["yes", "no"])
    picture[:] = images[2]
    changed = assistant.ask(picture, QUESTIONS[0], ["yes", "no"])
    assert changed == assistant.ask(images[2], QUESTIONS[0], ["yes", "no"])
    assert changed.confidence != first.confidence


def test_sampling_depends_on_seed_and_index_only(onnx, images):
    def request(seed: int, index: int) -> Request:
        return Request((images[0],), QUESTIONS[3], max_new_tokens=LIMIT, sampling=Sampling(2.0, seed, index))

    alone = onnx.generate([request(1, 3)])[0].text
    batch = onnx.generate([request(1, i) for i in range(6)])
    assert batch[3].text == alone and len({r.text for r in batch}) > 1


@pytest.mark.parametrize("model", ["nano", "talker"])
def test_special_tokens_in_a_question_are_plain_text(request, model):
    image = np.zeros((64, 64, 3), np.uint8)
    answer = load(request.getfixturevalue(model)).ask(image, "is it <eos><image> dark?")
    assert answer.question == "is it <eos><image> dark?"


def test_the_embedded_model_sees_and_says_the_same_with_torch(nano, images):
    pytest.importorskip("torch")
    from lhrs.inference.perception import PerceptionRuntime
    from lhrs.inference.runtimes.torch import TorchRuntime

    torch_model = TorchRuntime(str(nano), "cpu")
    ours, theirs = load(nano).runtime, PerceptionRuntime(torch_model, torch_model, nano)
    for image in images:
        first, second = (runtime.evidence([(image, None)])[0] for runtime in (ours, theirs))
        np.testing.assert_allclose(first.cover_map, second.cover_map, atol=1e-3)
        assert first.scenes == pytest.approx(second.scenes, abs=1e-3)
        assert ours.ood_score(image) == pytest.approx(theirs.ood_score(image), rel=1e-3)
    requests = [Request((images[0],), question) for question in QUESTIONS]
    assert [r.text for r in ours.generate(requests)] == [r.text for r in theirs.generate(requests)]


def test_probabilities_are_those_of_the_answer(onnx, images):
    reply = onnx.generate([Request((images[0],), QUESTIONS[0], max_new_tokens=LIMIT)])[0]
    assert len(reply.probabilities) - len(reply.token_texts) in {0, 1}  # the end token has a probability, but no text
    assert all(0 < p <= 1 for p in reply.probabilities)
    assert reply.sequence_probability == pytest.approx(np.prod(reply.probabilities))


@pytest.mark.parametrize(
    ("model", "broken"),
    [("talker", "vision.onnx"), ("nano", "perception.onnx"),
     *(("nano", name) for name in ("tokenizer.json", "config.json", "model.safetensors"))],
)  # fmt: skip
def test_damaged_models_are_named(request, tmp_path, model, broken):
    for file in request.getfixturevalue(model).iterdir():
        if file.name == broken:
            (tmp_path / file.name).write_bytes(b"{damaged")
        else:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load(tmp_path)
    (tmp_path / broken).unlink()
    with pytest.raises(CheckpointError, match=broken):
        load(tmp_path)


def test_an_exported_model_answers_as_the_one_it_came_from(talker, images, tmp_path):
    pytest.importorskip("onnxscript")
    from lhrs.models.export import export

    export(str(talker), tmp_path / "out", None, None, onnx=True)
    requests = mixed(images)
    first, again = load(talker).runtime.generate(requests), load(tmp_path / "out").runtime.generate(requests)
    assert [r.token_texts for r in first] == [r.token_texts for r in again]

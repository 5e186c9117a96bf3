"""Models of other families behind the same commands: their own classes at small random size, and a local server."""

import json

import numpy as np
import pytest

from lhrs.errors import CheckpointError, ServerError
from lhrs.inference.load import load
from lhrs.inference.runtime import Request, Sampling
from lhrs.reasoning import strip_reasoning

torch = pytest.importorskip("torch")
from tests.inference.foreign import FAMILIES, save  # noqa: E402
from tests.inference.server import Server  # noqa: E402

POOL = [np.random.default_rng(n).integers(0, 256, (60 + 10 * n, 90, 3), dtype=np.uint8) for n in range(3)]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def runtime(folder):
    return load(folder).runtime


def test_the_family_is_recognised(runtime, folder):
    family = json.loads((folder / "config.json").read_text())["model_type"]
    assert family in runtime.family.model_types or family == "smolvlm"


def test_batches_say_what_single_requests_say(runtime):
    requests = [
        Request(
            (POOL[n % 3],) if n % 4 else (),
            "what is here? " * (1 + n % 3),
            ("river", "forest") if n % 3 == 1 else None,
            "number" if n % 5 == 2 and n % 3 != 1 else "text",
            max_new_tokens=2 + n % 4,
            sampling=Sampling(1.0, 1, n) if n % 2 else None,
        )
        for n in range(10)
    ]
    for request, reply in zip(requests, runtime.generate(requests), strict=True):
        alone = runtime.generate([request])[0]
        assert (reply.text, reply.token_texts) == (alone.text, alone.token_texts)
        assert reply.probabilities == pytest.approx(alone.probabilities, abs=1e-3)


def test_the_image_matters_and_forms_are_kept(runtime):
    replies = [runtime.generate([Request((p,), "what?", ("river", "forest"))])[0].sequence_probability for p in POOL]
    assert len({round(p, 5) for p in replies}) == 3
    assert runtime.generate([Request((POOL[0],), "how many?", answer_type="number")])[0].text.isdigit()


def test_streamed_pieces_make_the_answer(runtime):
    pieces: list[str] = []
    reply = runtime.generate([Request((POOL[0],), "what?", max_new_tokens=6)], pieces.append)[0]
    assert strip_reasoning("".join(pieces)).strip() == reply.text


def test_pixels_of_the_resized_image_become_pixels_of_the_file(tmp_path):
    """Qwen2.5-VL counts pixels of what it saw: 56 x 84 here, for an image of 60 x 90."""
    assistant = load(save("qwen2_5_vl", tmp_path))
    runtime = assistant.runtime
    text = '[{"bbox_2d": [0, 0, 42, 56], "label": "ship"}]'
    tokens = iter([*runtime.encode(text), runtime.eos_token_ids[0]])
    runtime._model.generate = lambda input_ids, **rest: torch.cat([input_ids, torch.tensor([list(tokens)])], 1)
    assert assistant.ground(POOL[0], "the ship").boxes[0].xyxy == pytest.approx((0, 0, 45, 60), abs=0.1)


def test_a_folder_that_is_no_such_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="does not load") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.fixture(params=[(True, True), (False, False)], ids=["forms", "plain"])
def server(request):
    pytest.importorskip("openai")
    running = Server(*request.param)
    yield running
    running.server.should_exit = True


def test_a_server_answers_like_the_model_it_serves(server, images, trained):
    local, remote = load(), load(server.url)
    assert remote.runtime.name == "lhrs-nano" and type(remote.runtime.family) is type(local.runtime.family)
    for image in images:
        assert remote.classify(image).answer == local.classify(image).answer
    answer = remote.ask(images[0], "what is the land use in this image?")
    assert answer.answer == local.ask(images[0], "what is the land use in this image?").answer
    assert answer.confidence == (pytest.approx(0.25) if server.tells else None)
    labels = ["river", "forest", "annual crop"]
    if server.knows_forms:
        assert remote.classify(images[0], labels).answer == local.classify(images[0], labels).answer
    assert len(list(remote.ask_all([images[n % 3] for n in range(20)], "is there a river?"))) == 20


def test_a_server_streams(server, images, trained):
    pieces: list[str] = []
    reply = load(server.url).runtime.generate([Request((images[0],), "describe the image.")], pieces.append)[0]
    assert len(pieces) > 3 and "".join(pieces) == reply.text


def test_a_server_that_is_not_there_is_one_line():
    pytest.importorskip("openai")
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9/v1 does not answer") as error:
        load("http://127.0.0.1:9/v1")
    assert "\n" not in str(error.value)

"""From parts to a model that answers from evidence: perception, a language model that writes queries, ONNX."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.downstream.world import write_masks, write_scenes
from tests.training.perception_world import run_file, write_roofs

from lhrs.cli import main
from lhrs.errors import ConfigError
from lhrs.inference.load import load
from lhrs.inference.perception import PerceptionRuntime
from lhrs.inference.runtime import Request
from lhrs.models.export import export
from lhrs.models.presets import PRESETS, build_model
from lhrs.models.small_language import build_language_model
from lhrs.training.dispatch import load_run, train

QUESTIONS = {
    "is there water?": "presence: water", "how many buildings?": "count: buildings", "what is it?": "class:",
    "how much is grass?": "share: grass", "water or building?": "choose: water | building",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder that lhrs train wrote in two stages."""
    folder = tmp_path_factory.mktemp("parts")
    write_scenes(folder / "scenes")
    write_masks(folder / "masks")
    write_roofs(folder / "roofs")
    train(load_run(run_file(folder)))
    build_language_model([*QUESTIONS, *QUESTIONS.values()] * 20, folder / "language", vocab_size=400, hidden_size=32,
                         intermediate_size=64, num_layers=2, num_heads=2)  # fmt: skip
    with (folder / "queries.jsonl").open("w") as file:
        for n, (question, query) in enumerate([*QUESTIONS.items()] * 8):
            turns = [{"role": "user", "text": question}, {"role": "assistant", "text": query}]
            file.write(json.dumps({"id": str(n), "turns": turns, "source": "made up", "license": "CC0-1.0"}) + "\n")
    run = {
        "kind": "vlm", "recipe": "lhrs-bot", "stage": 1, "output_dir": str(folder / "stage"), "device": "cpu",
        "num_threads": 1, "trainable": ["language_model"], "data": [{"path": str(folder / "queries.jsonl")}],
        "model": {"encoder": str(folder / "run/model"), "language_model": str(folder / "language"), "bridge": None,
                  "vision_feature_layers": [1, 2, 3, 4], "chat_template": "compact", "dtype": "float32"},
        "optim": {"steps": 60, "lr": 0.01, "batch_size": 8}, "sample_generations": {"num": 0},
    }  # fmt: skip
    (folder / "stage.yaml").write_text(yaml.safe_dump(run))
    train(load_run(folder / "stage.yaml"))
    return folder / "stage/model"


@pytest.fixture(scope="module")
def exported(model):
    export(str(model), model.parent / "onnx", None, None, onnx=True)
    return model.parent / "onnx"


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, np.uint8) for size in ((64, 64, 3), (40, 90, 3), (700, 400, 3))]


def test_both_paths_see_and_say_the_same(model, exported, images):
    torch_path, onnx_path = load(model, "cuda" if torch.cuda.is_available() else None), load(exported)
    assert isinstance(onnx_path.runtime, PerceptionRuntime)
    for image in images:
        a, b = (path.runtime.evidence([(image, 0.5)])[0] for path in (torch_path, onnx_path))
        np.testing.assert_allclose(a.cover_map, b.cover_map, atol=1e-4)
        assert a.scenes == pytest.approx(b.scenes, abs=1e-4)
        for question in QUESTIONS:
            assert torch_path.ask(image, question).answer == onnx_path.ask(image, question).answer


def test_answers_agree_with_each_other(exported, images):
    assistant = load(exported)
    for image in images:
        count, found = assistant.count(image, "buildings"), assistant.ground(image, "the buildings")
        assert count.answer == str(len(count.boxes))
        assert [box.xyxy for box in count.boxes] == [box.xyxy for box in found.boxes]
        assert assistant.ask(image, "how many buildings?").answer in (count.answer, "0") or not count.boxes
    assert assistant.classify(images[0], ["water", "flibber"]).answer == "water"


def test_the_language_model_has_learned_the_queries(exported):
    assistant = load(exported)
    runtime = assistant.runtime.model
    replies = runtime.generate([Request((), question, answer_type="query") for question in QUESTIONS])
    assert sum(reply.text == query for reply, query in zip(replies, QUESTIONS.values(), strict=True)) >= 4


def test_options_in_the_text_of_a_question(exported, images):
    runtime = load(exported).runtime
    family = runtime.family
    listed = family.classify_prompt.replace("{options}", "Water Body, flibber")
    lettered = family.choose_prompt.format(question="What is it?", options="A. flibber\nB. water")
    replies = runtime.generate([Request((images[0],), text) for text in (listed, lettered)])
    assert [reply.text for reply in replies] == ["Water Body", "B"]
    assert family.split_options("what is A. Smith doing?") == ("what is A. Smith doing?", {})


def test_a_conversation_is_continued_from_its_texts(exported, images):
    runtime = load(exported).runtime
    history = (("how much is grass?", "any text"), ("is there water?", "yes"))
    alone, later = (runtime.generate([Request((images[0],), "what is it?", history=h)])[0] for h in ((), history))
    assert alone.text == later.text
    asked_before = runtime.generate([Request((images[0],), "?", history=history, query="follow: building")])[0]
    assert asked_before.text in ("yes", "no")


def test_unknown_labels_are_warned_of_on_the_command_line(exported, tmp_path, images, capsys, monkeypatch):
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    command = ["lhrs", "classify", str(tmp_path / "a.png"), "--labels", "water,flibber,solar panels"]
    monkeypatch.setattr("sys.argv", [*command, "--model", str(exported)])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr()
    assert not end.value.code
    assert printed.out.startswith("water")
    assert "'flibber' is not in the table" in printed.err
    assert "not trained to see 'solar panels'" in printed.err


def test_a_batch_answers_as_single_images_do(exported, images):
    assistant = load(exported)
    single = [load(exported).ask(image, "is there water?") for image in images]
    assert [a.answer for a in assistant.ask_all(images, "is there water?")] == [a.answer for a in single]


def test_pictures_from_files(exported, tmp_path, images):
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    answer = load(exported).caption(tmp_path / "a.png")
    assert answer.answer.startswith("An overhead image")
    assert answer.model == exported.name


def test_a_model_without_a_bridge_needs_dense_heads(tmp_path):
    preset = PRESETS["lhrs-bot-7b"]
    with pytest.raises(ConfigError, match="no dense heads"):
        build_model(preset, encoder=tmp_path, language_model=tmp_path, has_bridge=False)

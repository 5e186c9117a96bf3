"""The embedded model from labelled pictures to a package that answers, at a few steps a run."""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("onnxscript")

from safetensors.torch import load_file  # noqa: E402

import lhrs  # noqa: E402
from lhrs.errors import ConfigError, DataError  # noqa: E402
from lhrs.nano.config import QuestionsRun, VisionRun  # noqa: E402
from lhrs.nano.model import build_nano, train_tokenizer  # noqa: E402
from lhrs.nano.package import QuestionLoss, tokenizer_texts  # noqa: E402
from lhrs.nano.rows import Phase, QuestionRows, collate_rows  # noqa: E402
from lhrs.nano.sources import load_sources  # noqa: E402
from lhrs.nano.templates import load_banks  # noqa: E402
from lhrs.training.dispatch import train  # noqa: E402

SOURCE = {"kind": "folder", "name": "eurosat", "path": "eurosat", "crop": [0.8, 1.0]}
COMMON = {"device": "cpu", "num_threads": 1, "logging_steps": 1, "save_steps": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pictures of two classes that differ in colour."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for name, colour in (("Forest", (20, 90, 30)), ("River", (30, 60, 160))):
        (folder / "eurosat" / name).mkdir(parents=True)
        for n in range(6):
            noise = rng.integers(-15, 15, (64, 64, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(
                folder / "eurosat" / name / f"{n}.png"
            )
    return folder


def vision_run(root, out, **changes) -> VisionRun:
    optim = {"epochs": 2, "lr": 1e-3, "batch_size": 4, "warmup_steps": 1}
    data = {"root": root, "sources": [SOURCE]}
    return VisionRun(kind="vision", output_dir=out, data=data, optim=optim, **COMMON, **changes)


def questions_run(root, out, **changes) -> QuestionsRun:
    optim = {"epochs": 1, "lr": 1e-3, "batch_size": 2, "warmup_steps": 1}
    phases = [{"until_epoch": 9, "tasks": {"scene": 1, "presence": 1}, "sources": {"eurosat": 1}}]
    data = {"root": root, "sources": [SOURCE]}
    settings = {"phases": phases, "samples_per_epoch": 4, **COMMON, **changes}
    return QuestionsRun(kind="questions", output_dir=out, data=data, optim=optim, **settings)


@pytest.fixture(scope="module")
def vision(root, tmp_path_factory):
    run = vision_run(root, tmp_path_factory.mktemp("vision") / "run")
    train(run)
    return run


@pytest.mark.slow
def test_labels_become_a_model_that_answers_without_torch(root, vision, tmp_path):
    run = questions_run(root, tmp_path / "run", init_vision_from=vision.output_dir)
    train(run)
    learned, encoder = (
        load_file(run.output_dir / "final.safetensors"),
        load_file(vision.output_dir / "final.safetensors"),
    )
    name = "conv1.0.weight"
    assert torch.equal(learned[f"model.vision_tower.timm_model.{name}"], encoder[f"encoder.{name}"])
    picture = root / "eurosat/River/0.png"
    answer = lhrs.load(run.output_dir / "model").ask(picture, "what is this?")
    assert answer.model and isinstance(answer.answer, str) and isinstance(answer.out_of_distribution, bool)


def test_a_vision_run_goes_on_from_another_and_learns(root, vision, tmp_path):
    run = vision_run(root, tmp_path / "run", init_from=vision.output_dir)
    train(run)
    before, after = (load_file(r.output_dir / "final.safetensors") for r in (vision, run))
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_run_needs_a_finished_one_of_the_right_kind(root, vision, tmp_path):
    with pytest.raises(ConfigError, match="contains a 'vision' run, a 'questions' run is needed"):
        train(questions_run(root, tmp_path / "run", init_from=vision.output_dir))
    with pytest.raises(ConfigError, match="is no output folder of a run"):
        train(questions_run(root, tmp_path / "run", init_vision_from=tmp_path))
    with pytest.raises(DataError, match="names it as source 'eurosat'"):
        train(vision_run(tmp_path, tmp_path / "run"))
    with pytest.raises(ValueError, match="give `init_vision_from`"):
        questions_run(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_without_images_teach_the_language_model_alone(root):
    tokenizer = train_tokenizer(tokenizer_texts(load_banks()), 3000)
    model, processor = build_nano(tokenizer, hidden_size=32, intermediate_size=48, num_hidden_layers=1)
    phase = Phase(1, {"lookup_two": 1}, {"eurosat": 1}, images=False)
    sources = load_sources([dict(SOURCE)], root)
    data = QuestionRows(sources, tokenizer, processor.num_image_tokens, [phase], 128, 60, 4, seed=0)
    batch = collate_rows([data[0, n] for n in range(4)], pad_id=tokenizer.pad_token_id)
    assert "pixels" not in batch and not (batch["input_ids"] == model.config.image_token_id).any()
    loss = QuestionLoss(model, train_vision=False)
    loss(**batch)["loss"].backward()
    assert all(p.grad is None for p in model.model.bridge.parameters())
    assert all(p.grad is not None for p in model.model.language_model.parameters())

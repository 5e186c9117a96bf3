"""The three stages: what learns, what is handed on, what is refused, and what a person sees."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training.tiny import load_model_files, losses, stage_settings, write_run

from lhrs.errors import ConfigError
from lhrs.inference.runtime import Request
from lhrs.inference.runtimes.torch import TorchRuntime
from lhrs.models import LHRSForConditionalGeneration, LHRSProcessor
from lhrs.models.export import export
from lhrs.training.dispatch import load_run, train
from lhrs.training.freeze import count_parameters, module_of
from lhrs.training.run_dir import read_record
from lhrs.training.vlm import build_vlm, load_modules, load_previous_stage, make_dataset, open_sources
from lhrs.training.vlm_config import VLMConfig

DECLARED = {
    ("lhrs-bot", 1): {"bridge"},
    ("lhrs-bot", 2): {"bridge", "lora"},
    ("lhrs-bot", 3): {"lora"},
    ("lhrs-bot-nova", 1): {"vision_tower", "bridge"},
    ("lhrs-bot-nova", 2): {"bridge", "lora"},
    ("lhrs-bot-nova", 3): {"bridge", "lora"},
}


def settings_of(tmp_path, *args, **changes) -> VLMConfig:
    settings = stage_settings(*args, **{"output_dir": str(tmp_path / "run"), **changes})
    run = load_run(write_run(tmp_path / "run.yaml", settings))
    assert isinstance(run, VLMConfig)
    return run


def chain(tmp_path, data, parts, system, steps=1):
    """Run the three stages one after the other; yield each run, and its model as it begins."""
    start = None
    for stage in (1, 2, 3):
        folder = tmp_path / str(stage)
        folder.mkdir()
        begin = {"model": parts} if stage == 1 else {"init_from": str(start)}
        run = settings_of(folder, stage, data, recipe=system, **begin)
        run = run.model_copy(update={"optim": run.optim.model_copy(update={"steps": steps})})
        torch.manual_seed(run.seed)  # as training does
        yield run, build_vlm(run, load_previous_stage(run))[0]
        train(run)
        start = run.output_dir


@pytest.mark.parametrize("system", ["lhrs-bot", "lhrs-bot-nova"])
def test_each_stage_changes_exactly_what_it_declares(tmp_path, data, parts, system, capsys):
    for run, module in chain(tmp_path, data, parts, system):
        declared = DECLARED[system, run.stage]
        assert set(run.trainable) == declared
        learns = {name for name, p in module.named_parameters() if p.requires_grad}
        assert learns == {name for name, _ in module.named_parameters() if module_of(name) in declared}
        before = {name: value.clone() for name, value in module.model.state_dict().items()}
        train(run)
        after = load_model_files(run.output_dir / "model")
        before = {name.replace(".base_layer", ""): value for name, value in before.items()}
        changed = {module_of(n) for n, v in after.items() if not torch.equal(v, before[n])}
        assert changed == declared
        table = re.findall(r"│ (\w+) +│ +([\d,]+) │ +([\w,]+)", capsys.readouterr().err)
        total, trainable = count_parameters(module.model)
        shown = {part: (f"{total[part]:,}", f"{trainable[part]:,}" if trainable[part] else "frozen") for part in total}
        assert {part: (count, trained) for part, count, trained in table if part != "all"} == shown


def test_frozen_parts_stay_in_evaluation_mode(tmp_path, data, parts):
    run = settings_of(tmp_path, 1, data, model=parts)
    module = build_vlm(run, None)[0].train()
    assert module.model.model.bridge.training
    assert not module.model.model.vision_tower.training and not module.model.model.language_model.training


@pytest.mark.parametrize(
    ("system", "written"),
    [("lhrs-bot", "[0.000, 0.250, 0.500, 1.000]"), ("lhrs-bot-nova", "<bbox>[0.000,0.250,0.500,1.000]</bbox>")],
)
def test_boxes_are_learned_in_the_form_of_the_system(tmp_path, data, parts, system, written):
    answer = {"role": "assistant", "text": "a field", "boxes": [{"label": "field", "xyxy": [0, 5, 10, 20]}]}
    row = {"id": "a", "images": [str(data.parent / "0.png")], "source": "t", "license": "CC0-1.0",
           "turns": [{"role": "user", "text": "Find the field."}, answer]}  # fmt: skip
    (tmp_path / "boxes.jsonl").write_text(json.dumps(row))
    run = settings_of(tmp_path, 1, tmp_path / "boxes.jsonl", model=parts, recipe=system)
    stage, processor, _ = build_vlm(run, None)
    ids = make_dataset(run, open_sources(run), stage.model, processor)[0, 0]["input_ids"]
    assert processor.tokenizer.decode(ids).rstrip().endswith(f"a field {written}")


def test_a_stage_goes_on_where_the_one_before_ended(tmp_path, data, stage1, stage2):
    run = settings_of(tmp_path, 3, data, init_from=str(stage2))
    state = build_vlm(run, load_previous_stage(run))[0].model.state_dict()
    saved = load_model_files(stage2 / "model")
    for name, value in state.items():  # LoRA is the same, not a new one
        assert name == "lm_head.weight" or torch.equal(value, saved[name.replace(".base_layer", "")]), name
    assert {module_of(name) for name in saved} == {"vision_tower", "bridge", "language_model", "lora"}


def test_a_trained_module_is_passed_on_in_float32(tmp_path, data, parts):
    start = tmp_path / "1"
    first = settings_of(tmp_path, 1, data, model={**parts, "dtype": "bfloat16"}, output_dir=str(start))
    first = first.model_copy(update={"optim": first.optim.model_copy(update={"steps": 1})})
    train(first)
    saved = load_file(start / "model/model.safetensors")
    assert {module_of(n) for n, value in saved.items() if value.dtype == torch.float32} == {"bridge"}
    assert {value.dtype for value in saved.values()} == {torch.float32, torch.bfloat16}
    assert LHRSForConditionalGeneration.from_pretrained(start / "model").dtype == torch.bfloat16
    run = settings_of(tmp_path, 2, data, init_from=str(start))
    stage, _, _ = build_vlm(run, load_previous_stage(run))
    for name, value in stage.model.model.bridge.state_dict().items():
        assert torch.equal(value, saved[f"model.bridge.{name}"])
    assert stage.model.model.language_model.dtype == torch.bfloat16


def test_experts_begin_as_the_dense_bridge(tmp_path, data, parts):
    runs = chain(tmp_path, data, parts, "lhrs-bot-nova")
    next(runs)
    run, module = next(runs)
    assert module.model.config.bridge_config.num_experts == 4
    dense = LHRSForConditionalGeneration.from_pretrained(run.init_from / "model").eval()
    pixels = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected, got = (m.get_image_features(pixels).pooler_output for m in (dense, module.model.eval()))
    torch.testing.assert_close(got, expected)


@torch.no_grad()
def test_an_export_is_the_trained_model_with_its_lora_merged(stage2, data, tmp_path):
    run = settings_of(tmp_path, 3, data, init_from=str(stage2))
    stage, _, _ = build_vlm(run, load_previous_stage(run))
    export(str(stage2 / "model"), tmp_path / "merged", None, None)
    merged = LHRSForConditionalGeneration.from_pretrained(tmp_path / "merged").eval()
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    LHRSProcessor.from_pretrained(tmp_path / "merged")
    ids = torch.tensor([[1, 40, 50, 60]])
    adapted = stage.model.eval()(input_ids=ids).logits
    torch.testing.assert_close(merged(input_ids=ids).logits, adapted, rtol=1e-4, atol=1e-4)
    asked = TorchRuntime(str(stage2 / "model"), "cpu")._model  # not exported: merged in memory
    torch.testing.assert_close(asked(input_ids=ids).logits, adapted, rtol=1e-4, atol=1e-4)


def test_later_stages_refuse_to_begin_without_the_one_before(tmp_path, data, parts, stage1, stage2):
    def refusal(stage, **changes) -> str:
        with pytest.raises(ConfigError) as error:
            train(settings_of(tmp_path, stage, data, **changes))
        assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
        return str(error.value)

    assert "stage 2 of lhrs-bot starts from the result of stage 1: set `init_from`" in refusal(2)
    assert "run.json is missing" in refusal(2, init_from=str(tmp_path / "nothing"))
    assert "contains stage 1 of lhrs-bot" in refusal(3, init_from=str(stage1))
    assert "contains stage 1 of lhrs-bot." in refusal(2, init_from=str(stage1), recipe="lhrs-bot-nova")
    assert "lora.rank is 4" in refusal(3, init_from=str(stage2), lora={"rank": 4, "alpha": 4, "dropout": 0})
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    record = read_record(stage1).model_copy(update={"finished": False})
    (unfinished / "run.json").write_text(record.model_dump_json())
    assert "is not finished" in refusal(2, init_from=str(unfinished))
    assert "remove `model`" in refusal(2, init_from=str(stage1), model=parts)


def test_a_finished_run_is_not_run_again_and_its_folder_not_given_to_another(stage1, data, parts, tmp_path):
    before = (stage1 / "run.json").stat().st_mtime_ns
    run = load_run(stage1 / "run.yaml")
    train(run)
    assert (stage1 / "run.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="another 'seed'"):
        train(run.model_copy(update={"seed": 1}))


def test_answers_and_curves_can_be_watched(stage1):
    rows = [json.loads(line) for line in (stage1 / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["id"]) for row in rows] == [(3, "0"), (3, "1"), (6, "0"), (6, "1")]
    assert rows[1]["question"] == "what is 1?" and rows[1]["expected"].startswith("field")
    seen = {"scalars": set(), "tensors": set()}
    for file in (stage1 / "tensorboard").glob("events.*"):
        found = EventAccumulator(str(file)).Reload().Tags()
        for kind, tags in seen.items():
            tags.update(found[kind])
    assert {"train/loss", "train/grad_norm", "train/learning_rate"} <= seen["scalars"]
    assert "samples/0/text_summary" in seen["tensors"]


def test_watching_changes_nothing(stage1, data, parts, tmp_path):
    run = settings_of(tmp_path, 1, data, model=parts, sample_generations={"num": 0}, logging_steps=5, save_steps=6)
    train(run)
    assert (run.output_dir / "model/model.safetensors").read_bytes() == (
        stage1 / "model/model.safetensors"
    ).read_bytes()


def test_expert_use_is_logged(tmp_path, data, parts):
    runs = chain(tmp_path, data, parts, "lhrs-bot-nova", steps=2)
    next(runs)
    run, _ = next(runs)
    train(run)
    state = json.loads((run.output_dir / "checkpoint-2/trainer_state.json").read_text())
    shares = [
        state["log_history"][-2 if "train_runtime" in state["log_history"][-1] else -1][f"expert_{n}"] for n in range(4)
    ]
    assert sum(shares) == pytest.approx(1)


def test_accumulation_does_not_change_the_losses(stage1, data, parts, tmp_path):
    run = settings_of(tmp_path, 1, data, model=parts)
    run = run.model_copy(update={"optim": run.optim.model_copy(update={"micro_batch_size": 1})})
    train(run)
    assert losses(run.output_dir) == pytest.approx(losses(stage1), abs=1e-4)


def test_a_run_that_began_from_a_folder_reads_its_own_settings_again(tmp_path, data, stage1):
    run = settings_of(tmp_path, 1, data, model={"folder": str(stage1 / "model"), "dtype": "float32"})
    train(run.model_copy(update={"optim": run.optim.model_copy(update={"steps": 1})}))
    assert load_run(run.output_dir / "run.yaml").model == run.model
    with pytest.raises(ConfigError, match="remove 'bridge'"):
        settings_of(tmp_path, 1, data, model={"folder": str(stage1 / "model"), "bridge": {"queries": [1]}})
    second = settings_of(tmp_path, 2, data, init_from=str(run.output_dir))
    assert build_vlm(second, load_previous_stage(second))[0].model.config.model_family == "lhrs_bot"


@pytest.mark.parametrize("text", [None, "Answer about the image."])
def test_the_system_text_of_the_run_is_that_of_its_model(tmp_path, data, parts, text):
    run = settings_of(tmp_path, 1, data, model=parts, system_prompt=text)
    train(run.model_copy(update={"optim": run.optim.model_copy(update={"steps": 1})}))
    runtime = TorchRuntime(str(run.output_dir / "model"), "cpu")
    prompt = runtime.prompt(Request((), "where?"))
    expected = "<s>[INST] where? [/INST]" if text is None else f"<s>[INST] <<SYS>>\n{text}\n<</SYS>>\n\nwhere? [/INST]"
    assert runtime.decode([*prompt.prefix, *prompt.rest]) == expected


def test_the_family_of_a_model_may_be_another_than_the_recipes(tmp_path, data, parts):
    model, _ = load_modules(settings_of(tmp_path, 1, data, model={**parts, "family": "instruct"}).model, "lhrs-bot")
    assert model.config.model_family == "instruct"
    with pytest.raises(ConfigError, match="nosuch"):
        load_modules(settings_of(tmp_path, 1, data, model={**parts, "family": "nosuch"}).model, "lhrs-bot")
    with pytest.raises(ConfigError, match="image_size is for timm encoders"):
        load_modules(settings_of(tmp_path, 1, data, model={**parts, "image_size": 64}).model, "lhrs-bot")

"""`lhrs convert` on the recorded checkpoints: folders that load like any other and give the original numbers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.parity.reference import SIZES, draw
from tests.training.tiny import SRC
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lhrs.errors import CheckpointError, ConfigError
from lhrs.models import LHRSForConditionalGeneration
from lhrs.models.export import export
from lhrs.models.importers.convert import convert

VARIANTS = {"v1": "lhrs-bot", "nova": "lhrs-bot-nova"}


@pytest.fixture(params=VARIANTS)
def folder(golden, request):
    return golden / request.param


@pytest.fixture
def copy(folder, tmp_path):
    """The recorded folder, to be damaged."""
    out = tmp_path / "copy"
    shutil.copytree(folder, out)
    for path in (out, *out.rglob("*")):
        path.chmod(0o755)
    return out


def ids_for(model, expected):
    """Repeat the placeholder once per image token."""
    tokens = [model.config.image_token_id] * model.config.bridge_config.num_tokens
    rows = [[part for i in row for part in ([i] if i >= 0 else tokens)] for row in expected["input_ids"].tolist()]
    return torch.tensor(rows)


@torch.no_grad()
def assert_same_numbers(model, expected):
    ids, pixels = ids_for(model, expected), expected["pixel_values"]
    logits = model(input_ids=ids, pixel_values=pixels).logits[..., :-1]
    torch.testing.assert_close(logits, expected["logits"], atol=1e-4, rtol=0)
    steps = expected["greedy_ids"].shape[1]
    model.generation_config.eos_token_id = None  # the recording does not stop
    out = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, max_new_tokens=steps, do_sample=False
    )
    assert out[:, -steps:].tolist() == expected["greedy_ids"].tolist()


def test_a_converted_folder_gives_the_recorded_tokens(folder, tmp_path):
    done = convert(folder, tmp_path / "out", str(folder / "llm_base"))
    assert (done.system, done.stage) == (VARIANTS[folder.name], "2 or 3")
    model = LHRSForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    assert_same_numbers(model, load_file(folder / "expected.safetensors"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("variant", "size", "seed"), [("v1", "small", 1), ("v1", "odd", 2), ("nova", "small", 3),
                                                       ("nova", "odd", 4)])  # fmt: skip
def test_fresh_checkpoints_of_other_sizes_compute_what_the_description_says(variant, size, seed, tmp_path):
    expected = draw(variant, size, seed, tmp_path / "fresh")
    done = convert(tmp_path / "fresh", tmp_path / "out", str(tmp_path / "fresh" / "llm_base"), system=VARIANTS[variant])
    assert f"LoRA: rank {SIZES[size]['rank']}, alpha {SIZES[size]['alpha']}, merged" in done.found
    model = LHRSForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    assert_same_numbers(model, expected)


def test_collapsed_experts_compute_the_same_in_an_eighth_of_the_numbers(golden, tmp_path):
    folder = golden / "nova"
    convert(folder, tmp_path / "out", str(folder / "llm_base"), collapse=True)
    model = LHRSForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    assert_same_numbers(model, load_file(folder / "expected.safetensors"))
    experts = model.model.bridge.layers[0].mlp.experts
    width = model.config.bridge_config.hidden_size
    assert sum(p.numel() for p in experts.parameters()) == 4 * (width * width + width)
    with pytest.raises(ConfigError, match="linear experts"):
        convert(golden / "v1", tmp_path / "v1", str(golden / "v1" / "llm_base"), collapse=True)
    assert not (tmp_path / "v1").exists() and not list(tmp_path.glob(".*"))


def test_another_system_than_expected_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=rf"FINAL\.pt is {VARIANTS[folder.name]}, not cmid"):
        convert(folder, tmp_path / "out", str(folder / "llm_base"), system="cmid")


def test_export_merges_the_kept_lora(folder, tmp_path):
    """`lhrs convert --keep-lora`, then `lhrs export --dtype`."""
    base = chat_base(folder / "llm_base", tmp_path / "llm")
    convert(folder, tmp_path / "kept", str(base), keep_lora=True)
    lines = export(str(tmp_path / "kept"), tmp_path / "merged", None, torch.float32)
    assert any(line.startswith("merged") for line in lines) and not (tmp_path / "merged" / "adapter").exists()
    model = LHRSForConditionalGeneration.from_pretrained(tmp_path / "merged").eval()
    expected = load_file(folder / "expected.safetensors")
    with torch.no_grad():
        found = model(input_ids=ids_for(model, expected), pixel_values=expected["pixel_values"]).logits
    torch.testing.assert_close(found[..., : expected["logits"].shape[-1]], expected["logits"], atol=1e-4, rtol=0)
    export(str(tmp_path / "kept"), tmp_path / "half", None, torch.bfloat16)
    assert LHRSForConditionalGeneration.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="exists"):
        export(str(tmp_path / "kept"), tmp_path / "half", None, None)
    with pytest.raises(CheckpointError, match="cannot be merged"):
        export(str(tmp_path / "kept"), tmp_path / "other", tmp_path / "llm", None)
    assert not (tmp_path / "other").exists()


def chat_base(source, folder):
    """The recorded language model with a tokenizer of its vocabulary's size, as published ones have."""
    shutil.copytree(source, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    core = Tokenizer(models.WordLevel({f"t{n}": n for n in range(size)}, unk_token="t0"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="t1", eos_token="t2", unk_token="t0").save_pretrained(
        folder
    )
    return folder


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    torch.save({"rgb_ckpt": Trap(), "other_ckpt": {}}, tmp_path / "FINAL.pt")
    with pytest.raises(CheckpointError, match="holds more than tensors") as error:
        convert(tmp_path, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_kept_lora_gives_the_same_tokens_through_peft(folder, tmp_path):
    from peft import PeftModel

    convert(folder / "FINAL.pt", tmp_path / "out", str(folder / "llm_base"), keep_lora=True)
    model = LHRSForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    adapted = PeftModel.from_pretrained(model, tmp_path / "out" / "adapter").merge_and_unload()
    assert_same_numbers(adapted, load_file(folder / "expected.safetensors"))


def test_the_command_says_what_it_found_and_left_out(folder, tmp_path):
    command = [sys.executable, "-m", "lhrs", "convert", str(folder), "--llm", str(folder / "llm_base"), "--out"]
    environment = {"PYTHONPATH": str(SRC), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert VARIANTS[folder.name] in done.stdout and "LoRA: rank" in done.stdout and "left out: processor" in done.stdout
    again = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, env=environment)
    assert again.returncode == 2 and "exists" in again.stderr and again.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", ["truncated", "no tensors", "other base", "no heads", "broken meta"])
def test_damage_is_one_line_and_leaves_nothing(copy, damage, tmp_path):
    final, base, out = copy / "FINAL.pt", copy / "llm_base", tmp_path / "out"
    if damage == "truncated":
        final.write_bytes(final.read_bytes()[:5000])
    elif damage == "no tensors":
        torch.save({"something": torch.zeros(1)}, final)
    elif damage == "other base":
        saved = torch.load(final, weights_only=True)
        pooler = saved["other_ckpt"]["rgb_pooler"]
        pooler["out_proj.weight"], pooler["out_proj.bias"] = torch.zeros(64, 32), torch.zeros(64)
        torch.save(saved, final)
    elif damage == "no heads":
        (copy / "meta.json").unlink()
    else:
        (copy / "meta.json").write_text("{")
    with pytest.raises(CheckpointError) as error:
        convert(copy, out, str(base))
    expected = {
        "truncated": "broken",
        "no tensors": "no checkpoint of LHRS-Bot, LHRS-Bot-Nova or CMID; it holds 'something'",
        "other base": "--llm",
        "no heads": "meta.json",
        "broken meta": "no JSON",
    }[damage]
    assert expected in str(error.value) and "\n" not in str(error.value)
    assert not out.exists() and not list(tmp_path.glob(".out*"))


def test_without_its_lora_stage_one_is_told_and_experts_are_refused(copy, tmp_path):
    shutil.rmtree(copy / "TextLoRA")
    if "nova" in json.loads((copy / "meta.json").read_text())["variant"]:
        with pytest.raises(CheckpointError, match="there is no TextLoRA beside it"):
            convert(copy, tmp_path / "out", str(copy / "llm_base"))
    else:
        done = convert(copy, tmp_path / "out", str(copy / "llm_base"))
        assert done.stage == "1" and any("the language model is the base's" in line for line in done.found)


def test_a_folder_needs_one_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        convert(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    with pytest.raises(CheckpointError, match=r"exactly one weight file; it has a\.pth, b\.pth"):
        convert(tmp_path, tmp_path / "out")


def test_a_cmid_run_becomes_a_timm_folder(cmid, tmp_path):
    done = convert(cmid / "cmid_swin_tiny_full.pth", tmp_path / "out", teacher=True)
    assert done.system == "cmid" and done.stage == "teacher"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors"}

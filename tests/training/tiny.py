"""A tiny system on disk: parts, pictures, conversations and run files that train in a second."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tests.models.tiny import SIDE, VIT, byte_tokenizer, llama
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, LlamaForCausalLM

from lhrs.training.run_dir import newest_checkpoint

SRC = Path(__file__).parents[2] / "src"
RECIPES = Path(__file__).parents[2] / "recipes"
NUM_SAMPLES = 24
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lhrs")


def write_parts(folder: Path, **language: Any) -> dict[str, Any]:
    """Write an encoder and a language model; return the `model` section that joins them."""
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**VIT, image_size=SIDE, patch_size=8)).save_pretrained(folder / "encoder")
    size = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    CLIPImageProcessorPil(**size).save_pretrained(folder / "encoder")
    tokenizer = byte_tokenizer(["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"])
    tokenizer.save_pretrained(folder / "language")
    LlamaForCausalLM(llama(len(tokenizer), **language)).save_pretrained(folder / "language")
    bridge = {"queries": [4, 3, 2], "hidden_size": 16, "num_layers": 2, "num_heads": 2}
    parts = {"encoder": str(folder / "encoder"), "language_model": str(folder / "language")}
    return {**parts, "vision_feature_layers": [1, 2, 4], "bridge": bridge, "dtype": "float32"}


def write_data(folder: Path) -> Path:
    """Write conversations of unequal length about pictures; some have two pictures or none."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "talk.jsonl").open("w") as file:
        for n in range(NUM_SAMPLES):
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / f"{n}.png")
            images = [f"{n}.png"] if n % 5 else []
            if n % 7 == 1:
                images.append("0.png")
            turns = [{"role": "user", "text": f"what is {n}?"}, {"role": "assistant", "text": "field " * (1 + n % 4)}]
            if n % 3 == 0:
                turns += [{"role": "user", "text": "sure?"}, {"role": "assistant", "text": "yes"}]
            row = {"id": str(n), "images": images, "turns": turns, "source": "made up", "license": "CC0-1.0"}
            file.write(json.dumps(row) + "\n")
    return folder / "talk.jsonl"


def stage_settings(stage: int, data: Path, recipe: str = "lhrs-bot", **changes: Any) -> dict[str, Any]:
    """Return the run file of a stage, with the values of its recipe where a test needs no smaller ones."""
    name = {1: "align", 2: "instruct", 3: "multitask"}[stage]
    settings: dict[str, Any] = yaml.safe_load((RECIPES / f"{recipe}-{stage}-{name}.yaml").read_text())
    for key in ("init_from", "output_dir", "save_steps", "seed"):
        settings.pop(key, None)
    settings |= {
        "data": [{"path": str(data)}],
        "device": "cpu",
        "bf16": False,
        "num_threads": 1,
        "logging_steps": 1,
        "save_steps": 2,
        "gradient_checkpointing": False,
        "sample_generations": {"every": 3, "num": 2, "max_new_tokens": 4},
    }
    settings["optim"] |= {"steps": 6, "batch_size": 4, "warmup_steps": 2, "lr": 3e-3, "min_lr": 1e-3}
    for key in ("epochs", "micro_batch_size"):
        settings["optim"].pop(key, None)
    if stage > 1:
        settings["lora"] = {"rank": 2, "alpha": 4, "dropout": 0.1}
    return {**settings, **changes}


def write_run(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def start_lhrs(*arguments: object, launcher: tuple[str, ...] = ("-m", "lhrs")) -> subprocess.Popen:
    """Start `lhrs train` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "train", *map(str, arguments)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


def kill_tree(process: subprocess.Popen) -> None:
    """Kill a process and all that it started, as a machine that loses power would."""
    pids = [process.pid]
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children")
        pids += map(int, children.read_text().split()) if children.exists() else []
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def wait_for_checkpoint(process: subprocess.Popen, out: Path) -> None:
    """Wait until a run has written its first checkpoint."""
    while newest_checkpoint(out) is None:
        assert process.poll() is None, finish(process)
        time.sleep(0.005)


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Wait for the end and return what it said on stderr."""
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == code, stderr
    return stderr


def load_model_files(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a model folder and of its adapter, by the names of the model in training."""
    state = load_file(folder / "model.safetensors")
    if (folder / "adapter").is_dir():
        for name, value in load_file(folder / "adapter/adapter_model.safetensors").items():
            state[re.sub(r"(lora_[AB])", r"\1.default", name.removeprefix("base_model.model."))] = value
    return state


def losses(out: Path) -> list[float]:
    """Return the loss of every step of a finished run."""
    last = max(out.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [row["loss"] for row in history if "loss" in row]

"""Models under test: the embedded one or one of its form with random weights, and one that writes its own answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhrs.inference.load import EMBEDDED
from lhrs.inference.ood import OODDetector

ROOT = Path(__file__).parents[1]
EMBEDDED_FOLDER = ROOT / "src/lhrs/resources" / EMBEDDED
EXAMPLES = ROOT / "examples"
LEVELS = (1, 2, 3, 4)
SIDE = 64
TALK = {
    "what is the land use in this image?": "a wide river between fields.",
    "is there a river in this image?": "yes, there is a river.",
    "describe the image in one sentence.": "an aerial image of fields, a forest and a river.",
    "how many buildings are there?": "there are 12 buildings near the road.",
}
"""What the model that writes its own answers is trained on."""


def random_nano(folder: Path) -> Path:
    """Write a model of the form of lhrs-nano with random weights, exported to ONNX."""
    pytest.importorskip("torch", reason="without the embedded weights, torch is needed to make random ones")
    import torch

    from lhrs.atomic_io import save_safetensors
    from lhrs.instruct.queries import query_samples
    from lhrs.models.configuration import LHRSHeadsConfig
    from lhrs.models.dense_heads import HEADS_CONFIG, HEADS_WEIGHTS, DenseHeads
    from lhrs.perception.settings import FILE_NAME

    texts = [turn.text for sample in query_samples(200, seed=0) for turn in sample.turns]
    parts = _write_parts(folder.with_name("parts"), texts)
    scenes, tags, cover, objects = (
        ["eurosat/River", "eurosat/Forest", "ucmerced/buildings"], ["water", "trees", "building"],
        ["water", "trees", "building"], ["building"],
    )  # fmt: skip
    heads = DenseHeads(LHRSHeadsConfig(scenes, tags, cover, objects, parts["widths"], width=16, neck_width=32))
    save_safetensors(parts["encoder"] / HEADS_WEIGHTS, heads.state_dict())
    (parts["encoder"] / HEADS_CONFIG).write_text(json.dumps(heads.config.to_dict()))
    names = {"scenes": scenes, "tags": tags, "cover": cover, "objects": objects}
    settings = {**names, "mean": [0.5] * 3, "std": [0.5] * 3, "overview_px": SIDE, "detail_px": 2 * SIDE}
    (parts["encoder"] / FILE_NAME).write_text(json.dumps(settings))
    _random_detector(2 * sum(parts["widths"])).save(parts["encoder"] / "ood.npz")
    model, processor = _build(parts, LEVELS, "perception", has_bridge=False)
    with torch.no_grad():
        model.model.dense_heads.scene.weight.normal_()
    return _export(model, processor, parts["encoder"], folder)


def talking_model(folder: Path) -> Path:
    """Write a tiny model with a bridge that has learned `TALK`, exported to ONNX."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    parts = _write_parts(folder.with_name("parts"), [*TALK, *TALK.values()] * 20)
    _random_detector(parts["widths"][-1]).save(parts["encoder"] / "ood.npz")
    bridge = {"queries": [4, 3, 2], "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    model, processor = _build(parts, LEVELS[1:], "instruct", **bridge)
    tokenizer, count = processor.tokenizer, processor.num_image_tokens
    rows = []
    for question, answer in TALK.items():
        text = f"<bos><user>{'<image>' * count} {question}<answer>"
        prompt, whole = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (text, f"{text}{answer}<eos>"))
        rows.append((whole, [-100] * len(prompt) + whole[len(prompt) :]))
    longest = max(len(ids) for ids, _ in rows)
    ids, labels = (
        torch.tensor([row[k] + [fill] * (longest - len(row[k])) for row in rows]) for k, fill in ((0, 0), (1, -100))
    )
    mask = (torch.arange(longest) < torch.tensor([[len(row[0])] for row in rows])).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        pixels = torch.randn(len(rows), 3, SIDE, SIDE)
        loss = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _export(model, processor, parts["encoder"], folder)


def _write_parts(folder: Path, texts: list[str]) -> dict[str, Any]:
    import timm
    import torch

    from lhrs.models.small_language import build_language_model
    from lhrs.models.timm_io import write_timm_folder

    torch.manual_seed(0)
    encoder = timm.create_model("test_efficientnet", num_classes=0)
    state = encoder.state_dict()
    write_timm_folder(folder / "encoder", state, "test_efficientnet", {}, SIDE, [0.5] * 3, [0.5] * 3)
    build_language_model(texts, folder / "language", vocab_size=600, hidden_size=64, intermediate_size=128,
                         num_layers=2, num_heads=2)  # fmt: skip
    widths = [encoder.feature_info[level]["num_chs"] for level in LEVELS]
    return {"encoder": folder / "encoder", "language_model": folder / "language", "widths": widths}


def _build(parts: dict[str, Any], levels: tuple[int, ...], family: str, **changes: Any) -> tuple[Any, Any]:
    from lhrs.models.presets import Preset, build_model

    preset = Preset(str(parts["encoder"]), str(parts["language_model"]), levels, {}, "compact")
    model, processor = build_model(preset, **changes)
    model.config.model_family, model.config.system_prompt = family, ""
    return model, processor


def _export(model: Any, processor: Any, beside: Path, folder: Path) -> Path:
    import torch

    from lhrs.inference.chat import write_single_prompts
    from lhrs.models.export import export
    from lhrs.models.load import copy_beside

    source = folder.with_name("torch")
    model.eval().save_pretrained(source)
    processor.save_pretrained(source)
    copy_beside(beside, source)
    export(str(source), folder, None, torch.float16, onnx=True)
    write_single_prompts(folder)
    shutil.rmtree(source)
    return folder


def _random_detector(width: int) -> OODDetector:
    rng = np.random.default_rng(0)
    features, groups = rng.normal(size=(80, width)).astype(np.float32), np.arange(80) % 2
    return OODDetector.fit(features[:60], groups[:60], features[60:])

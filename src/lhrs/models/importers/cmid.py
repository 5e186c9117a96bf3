"""Read backbones that CMID publishes (TGRS 2023, arXiv:2304.09670): ResNet-50 and Swin, alone or inside a full run.

A full run holds student (`online_encoder.model.`) and teacher (`branch_encoder.`); what is published as a backbone is
the student. ResNets have timm's names. Swins have those of mmcv 1.x, whose patch merging reads a 2 x 2 neighborhood
channel by channel, (c, row, column). timm reads it as (column, row, c). The weights must be reordered; otherwise they
load without an error but give wrong features.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from lhrs.errors import CheckpointError
from lhrs.models.importers.safe_unpickle import read_table
from lhrs.models.state_dict import load_strict
from lhrs.models.timm_io import write_timm_folder

State = dict[str, Tensor]

STUDENT, TEACHER = "online_encoder.model.", "branch_encoder."
_BACKBONES = ("layer1.0.conv1.weight", "stages.0.blocks.0.attn.w_msa.qkv.weight")
"""A tensor that every ResNet has, and one that every Swin has."""
_MASK_TOKENS = ("mask_token",)
_SWIN_NAMES = (
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"stages\.(\d+)\.(blocks\.\d+\.attn\.)w_msa\.", r"layers.\1.\2"),
    (r"stages\.(\d+)\.(blocks\.\d+\.)ffn\.layers\.0\.0\.", r"layers.\1.\2mlp.fc1."),
    (r"stages\.(\d+)\.(blocks\.\d+\.)ffn\.layers\.1\.", r"layers.\1.\2mlp.fc2."),
    (r"stages\.(\d+)\.(blocks\.)", r"layers.\1.\2"),
    (r"norm3\.", "norm."),
)
_DOWNSAMPLE = re.compile(r"stages\.(\d+)\.downsample\.(norm|reduction)\.(weight|bias)")
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Normalization of every published fine-tuning; pretraining used its own."""


@dataclass(frozen=True)
class Backbone:
    """An encoder of CMID under timm's names."""

    architecture: str
    """Name for `timm.create_model`."""
    sizes: dict[str, Any]
    """Arguments of the timm model if the weights differ in size from the architecture."""
    state: State
    dropped: dict[str, str]
    """Other contents of the file, with the reason why they are dropped."""

    def build(self) -> nn.Module:
        """Return the timm model with the weights in it.

        Raises:
            CheckpointError: a tensor is missing, unexpected, or of another shape.
        """
        try:
            model = timm.create_model(self.architecture, num_classes=0, **self.sizes)
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"the backbone does not fit timm's {self.architecture}: {reason}") from error
        load_strict(model, self.state, f"the backbone (timm's {self.architecture})")
        return model.eval()


def read_backbone(path: Path, teacher: bool = False) -> Backbone:
    """Read a backbone from a backbone-only or a full checkpoint.

    Args:
        path: torch or safetensors file.
        teacher: take the teacher of a full checkpoint instead of the student.

    Raises:
        CheckpointError: the file is broken, is something else, or has no teacher.
    """
    saved = read_table(path)
    table = saved.get("model", saved)
    if not isinstance(table, dict) or not all(isinstance(v, Tensor) for v in table.values()):
        raise CheckpointError(f"{path} is no CMID checkpoint: it holds more than tensors")
    dropped = {name: "of the training run" for name in saved if name != "model"} if table is not saved else {}
    if any(name.startswith(STUDENT) for name in table):
        prefix = TEACHER if teacher else STUDENT
        other = "the student" if teacher else "the teacher"
        state = {}
        for name, value in table.items():
            if name.startswith(prefix) and not name.endswith(_MASK_TOKENS):
                state[name.removeprefix(prefix).removeprefix("model.")] = value
            else:
                whose = other if name.startswith((STUDENT, TEACHER)) else "heads, queue and masks of pretraining"
                dropped[whose] = "not part of the backbone"
        if not state:
            raise CheckpointError(f"{path} holds no {'teacher' if teacher else 'student'}")
    elif teacher:
        raise CheckpointError(f"{path} is a backbone alone and has no teacher; give the full checkpoint")
    else:
        state = dict(table)
    if _BACKBONES[0] in state:
        return _resnet(state, dropped)
    if _BACKBONES[1] in state:
        return _swin(state, dropped)
    first = ", ".join(map(repr, sorted(table)[:3]))
    raise CheckpointError(f"{path} is no checkpoint of LHRS-Bot, LHRS-Bot-Nova or CMID; it holds {first}")


def is_cmid(table: dict[str, Any]) -> bool:
    """Return whether a state dict is that of a run or a backbone of CMID."""
    table = table.get("model", table)
    return isinstance(table, dict) and any(name.startswith((STUDENT, *_BACKBONES)) for name in table)


def _resnet(state: State, dropped: dict[str, str]) -> Backbone:
    kept = {name: value for name, value in state.items() if not name.startswith("fc.")}
    if len(kept) < len(state):
        dropped = {**dropped, "fc": "a classifier, not part of the backbone"}
    return Backbone("resnet50", {}, kept, dropped)


def _swin(state: State, dropped: dict[str, str]) -> Backbone:
    """Rename, reorder the patch merging, and read the sizes off the weights."""
    out: State = {}
    for name, value in state.items():
        if name.endswith("relative_position_index"):
            dropped = {**dropped, "relative_position_index": "follows from the window"}
        elif match := _DOWNSAMPLE.fullmatch(name):
            stage, part, kind = match.groups()
            # timm merges at the beginning of the next stage
            out[f"layers.{int(stage) + 1}.downsample.{part}.{kind}"] = _merge_order(value)
        else:
            for pattern, replacement in _SWIN_NAMES:
                name, count = re.subn(rf"^{pattern}", replacement, name)
                if count:
                    break
            out[name] = value
    num_stages = 1 + max(int(m[1]) for n in out if (m := re.match(r"layers\.(\d+)\.", n)))
    blocks = [{n.split(".")[3] for n in out if n.startswith(f"layers.{i}.blocks.")} for i in range(num_stages)]
    tables = [out[f"layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(num_stages)]
    patch = out["patch_embed.proj.weight"]
    sizes = {
        "embed_dim": patch.shape[0],
        "depths": tuple(map(len, blocks)),
        "num_heads": tuple(table.shape[1] for table in tables),
        "window_size": (math.isqrt(tables[0].shape[0]) + 1) // 2,
        "patch_size": patch.shape[2],
    }
    return Backbone("swin_base_patch4_window7_224", sizes, out, dropped)


def _merge_order(value: Tensor) -> Tensor:
    """Reorder 2 x 2 neighbours from (c, row, column) to timm's (column, row, c) along the last axis."""
    split = value.reshape(*value.shape[:-1], -1, 4).transpose(-1, -2)
    return split[..., [0, 2, 1, 3], :].reshape(value.shape).contiguous()


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write a folder for `timm.create_model("local-dir:FOLDER", pretrained=True)`.

    Raises:
        CheckpointError: the weights do not fit the architecture.
    """
    state = backbone.build().state_dict()
    write_timm_folder(folder, state, backbone.architecture, backbone.sizes, 224, IMAGENET["mean"], IMAGENET["std"])

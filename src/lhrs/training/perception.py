"""Perception training: an encoder with dense heads learns from scene classes, masks and boxes of many datasets at once.

The result is `model/`: a timm folder with the encoder, and `dense_heads.safetensors` with `dense_heads.json` beside it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Trainer

from lhrs.atomic_io import atomic_dir, save_safetensors, write_atomic
from lhrs.data.mask_dataset import MaskDataset
from lhrs.data.rendering_augment import RenderingAugment
from lhrs.downstream.backbone import Backbone, fix_batch_norms
from lhrs.inference.ood import OODDetector
from lhrs.models.configuration import LHRSHeadsConfig
from lhrs.models.dense_heads import HEADS_CONFIG, HEADS_WEIGHTS, DenseHeads, DenseOutput, load_heads
from lhrs.models.state_dict import load_strict
from lhrs.models.timm_io import write_timm_folder
from lhrs.perception.settings import FILE_NAME, PerceptionSettings
from lhrs.training import data_fingerprint
from lhrs.training.optim import make_groups
from lhrs.training.perception_config import PerceptionConfig
from lhrs.training.perception_data import UNKNOWN, PerceptionDataset, PerceptionSource, collate_by_size, open_sources
from lhrs.training.perception_fit import fit_ood, fit_settings
from lhrs.training.recipe import MODEL, Recipe, run
from lhrs.training.run_dir import finished_record

_LEVELS = (0, 1, 2, 3)
"""Feature maps of the backbone at strides 4, 8, 16 and 32."""


def train_perception(config: PerceptionConfig) -> None:
    """Train; see `lhrs.training.recipe.run`."""
    run(PerceptionRecipe(config))


class PerceptionNetwork(nn.Module):
    """Encoder and dense heads with the loss on all label types.

    Args:
        encoder: the backbone; its normalization is that of its pretraining.
        heads: dense heads for its levels.
        config: the run.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Backbone, heads: DenseHeads, config: PerceptionConfig) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, heads
        self.weights, self.label_smoothing = config.loss, config.label_smoothing
        self.classes, self.freeze_bn = config.classes, config.freeze_bn
        normalization = encoder.normalization
        mean, std = ([0.5] * 3, [0.5] * 3) if normalization is None else (normalization.mean, normalization.std)
        self.register_state_dict_post_hook(_make_contiguous)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "PerceptionNetwork":
        """Set training mode; with `freeze_bn`, batch norms stay in evaluation mode."""
        super().train(mode)
        if self.freeze_bn:
            fix_batch_norms(self)
        return self

    def predict(self, pixels: Tensor, gsd_m: Tensor | None = None) -> DenseOutput:
        """Return the logits of uint8 `pixels` `(B, 3, H, W)`; `gsd_m` `(B,)` is 0 where unknown."""
        x = (pixels.float() / 255 - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        return self.heads(self.encoder.feature_maps(x, _LEVELS), gsd_m)

    def forward(self, groups: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the loss and its parts; every part is a mean over the cells, tags or images that have labels."""
        parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in type(self.weights).model_fields}
        hits = []
        for group in groups:
            out = self.predict(group["pixels"], group["gsd_m"])
            for name, found in self._losses(out, group).items():
                parts[name].append(found)
            known = group["scene"] != UNKNOWN
            hits.append((out.scene.argmax(1) == group["scene"])[known].float())
        loss: dict[str, Tensor] = {}
        for name, sums in parts.items():
            total = torch.stack([value for value, _ in sums]).sum()
            count = torch.stack([count for _, count in sums]).sum()
            loss[name] = total / count.clamp(min=1)
        weighed = [getattr(self.weights, name) * value for name, value in loss.items()]
        right = torch.cat(hits)
        accuracy = right.mean() if len(right) else torch.zeros(())
        return {
            "loss": torch.stack(weighed).sum(), **{name: v.detach() for name, v in loss.items()},
            "scene_accuracy": accuracy.detach(),
        }  # fmt: skip

    def _losses(self, out: DenseOutput, group: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return (sum, count) of each part."""
        known = group["scene"] != UNKNOWN
        scene = F.cross_entropy(out.scene[known].float(), group["scene"][known], reduction="sum",
                                label_smoothing=self.label_smoothing)  # fmt: skip
        tagged = group["tags"] != UNKNOWN
        tags = F.binary_cross_entropy_with_logits(
            out.tags[tagged].float(), group["tags"][tagged].float(), reduction="sum"
        )
        cover, cells = allowed_loss(out.cover.float(), group["cover"])
        return {
            "scene": (scene, known.sum()), "tags": (tags, tagged.sum()), "land_cover": (cover, cells),
            "centers": center_loss(out, group), "extents": extent_loss(out, group),
        }  # fmt: skip


def _make_contiguous(module: nn.Module, state: dict[str, Any], prefix: str, _: dict) -> None:
    """Store weights in the usual order of axes: safetensors refuses the channels-last one."""
    for name, value in state.items():
        state[name] = value.contiguous()


def allowed_loss(logits: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over images of -log of the probability of the possible classes, and the number of labeled images.

    Args:
        logits: `(B, K, G, G)`.
        allowed: uint8 `(B, G, G)`, possible classes as bits; 0 is unknown.
    """
    count = logits.shape[1]
    possible = (allowed[:, None] >> torch.arange(count, device=allowed.device).view(1, -1, 1, 1)) & 1
    says = (allowed > 0) & (possible.sum(1) < count)
    log_all = logits.logsumexp(1)
    log_allowed = logits.masked_fill(possible == 0, -1e4).logsumexp(1)
    cells = says.flatten(1).sum(1)
    per_image = ((log_all - log_allowed) * says).flatten(1).sum(1) / cells.clamp(min=1)
    return per_image.sum(), (cells > 0).sum()


def center_loss(out: DenseOutput, group: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the sum of the focal loss on centers (arXiv:1904.07850) and the number of objects."""
    heat, known = group["heat"].float(), group["known"]
    p = out.centers.float().sigmoid().clamp(1e-4, 1 - 1e-4)
    is_center = heat == 1
    focal = torch.where(is_center, -((1 - p) ** 2) * p.log(), -((1 - heat) ** 4) * p**2 * (1 - p).log())
    counts = known[:, :, None, None] & ~group["ignore"][:, None]
    return (focal * counts).sum(), (is_center & counts).sum() + 0.1 * known.any(1).sum()


def extent_loss(out: DenseOutput, group: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the sum over cells of 1 - IoU (arXiv:1608.01471) and half the L1 loss on log extents, and their number."""
    target = group["extent"].permute(0, 2, 3, 1)
    known = ~target.isnan().any(-1)
    wanted, found = target[known].float(), out.extents.permute(0, 2, 3, 1)[known].float()
    l1 = (found - wanted).abs().mean(-1)
    a, b = wanted.exp(), found.clamp(max=6).exp()
    overlap = torch.minimum(a[:, :2], b[:, :2]) + torch.minimum(a[:, 2:], b[:, 2:])
    shared = overlap.prod(-1)
    areas = (a[:, :2] + a[:, 2:]).prod(-1) + (b[:, :2] + b[:, 2:]).prod(-1)
    iou = shared / (areas - shared)
    return (1 - iou + 0.5 * l1).sum(), known.sum()


class PerceptionRecipe(Recipe[PerceptionConfig]):
    """Perception training."""

    betas = {"adamw": (0.9, 0.99), "adan": (0.98, 0.92, 0.99)}

    def __init__(self, config: PerceptionConfig) -> None:
        super().__init__(config)
        self.optim = config.optim
        if config.init_from is not None:
            finished_record(config.init_from, "perception")

    def open_data(self) -> dict[str, str]:
        self.sources: list[PerceptionSource] = open_sources(self.config)
        fingerprints: dict[str, str] = {}
        for source in self.sources:
            name, path = source.config.name, source.config.path
            if isinstance(source.dataset, MaskDataset):
                items = [source.dataset.items[n] for n in source.indices]
                fingerprints |= data_fingerprint.of_masks(name, path, items)
            else:
                fingerprints |= data_fingerprint.of_samples(name, path, [source.dataset[n] for n in source.indices])
        return fingerprints

    def build(self) -> PerceptionNetwork:
        config = self.config
        scene_classes = self.sources[0].scene_classes
        if config.init_from is not None:
            encoder, heads = load_perception(config.init_from / MODEL)
            if list(heads.config.scene_classes) != scene_classes:
                heads = _with_scene_classes(heads, scene_classes)
        else:
            assert config.encoder is not None
            encoder = Backbone(config.encoder.name, 3, pretrained=config.encoder.pretrained)
            heads = DenseHeads(LHRSHeadsConfig(
                scene_classes, config.classes.tags, config.classes.land_cover, config.classes.objects,
                list(encoder.widths), config.width, getattr(encoder.model, "num_features", 1280), config.dropout,
            ))  # fmt: skip
            take_neck(encoder, heads)
        self.network = PerceptionNetwork(encoder, heads, config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.network

    def dataset(self) -> tuple[Any, Callable[..., Any]]:
        return PerceptionDataset(self.config, self.sources, RenderingAugment()), collate_by_size

    def param_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        optim = self.config.optim
        return make_groups(module, optim.weight_decay, (), lambda name: (
            optim.encoder_lr if name.startswith("encoder") else None) or optim.lr)  # fmt: skip

    def save(self, trainer: Trainer, state: Any) -> None:
        network = cast(PerceptionNetwork, self.network.cpu().eval())
        plain = PerceptionDataset(self.config, self.sources, None)
        fitted, scores = fit_settings(network, plain)
        heads = network.heads.config
        mean, std = (tuple(buffer.flatten().tolist()) for buffer in (network.mean, network.std))
        settings = PerceptionSettings(
            scenes=tuple(heads.scene_classes), tags=tuple(heads.tags), cover=tuple(heads.land_cover_classes),
            objects=tuple(heads.object_classes), mean=cast(Any, mean), std=cast(Any, std), **fitted,
        )  # fmt: skip
        varied = PerceptionDataset(self.config, self.sources, RenderingAugment())
        save_perception(self.model_dir, network, settings, fit_ood(network, varied))
        write_atomic(self.config.output_dir / "scores.json", json.dumps(scores, indent=1) + "\n")


def take_neck(encoder: Backbone, heads: DenseHeads) -> None:
    """Move EfficientNet's last convolution, which follows the deepest level, into the neck of the heads."""
    model: Any = encoder.model
    head = getattr(model, "conv_head", None)
    if isinstance(head, nn.Conv2d) and head.weight.shape == heads.neck[0].weight.shape:
        state = {f"0.{name}": value for name, value in head.state_dict().items()}
        state |= {f"1.{name}": value for name, value in model.bn2.state_dict().items()}
        load_strict(heads.neck, state, "the last convolution of the encoder")
    encoder.remove_tail()


def save_perception(
    folder: Path, network: PerceptionNetwork, settings: PerceptionSettings, detector: OODDetector
) -> None:
    """Write the encoder as a timm folder, and the heads with what was fitted beside it."""
    encoder, heads = network.encoder, network.heads
    with atomic_dir(folder) as part:
        architecture, args = str(encoder.settings["name"]), dict(cast(Any, encoder.settings["args"]))
        state = {name: value.contiguous() for name, value in encoder.model.state_dict().items()}
        write_timm_folder(
            part, state, architecture, args, settings.overview_px, list(settings.mean), list(settings.std)
        )
        save_safetensors(part / HEADS_WEIGHTS, {n: value.contiguous() for n, value in heads.state_dict().items()})
        write_atomic(part / HEADS_CONFIG, json.dumps(heads.config.to_dict(), indent=2) + "\n")
        write_atomic(part / FILE_NAME, settings.model_dump_json(indent=2) + "\n")
        detector.save(part / "ood.npz")


def load_perception(folder: Path) -> tuple[Backbone, DenseHeads]:
    """Return the encoder and the heads of a folder that `save_perception` wrote.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    heads = load_heads(folder)
    return Backbone(str(folder)), heads


def _with_scene_classes(heads: DenseHeads, names: list[str]) -> DenseHeads:
    """Return the heads with another list of scene classes; those of the same name keep their weights."""
    config = LHRSHeadsConfig.from_dict({**heads.config.to_dict(), "scene_classes": names})
    new = DenseHeads(config)
    state = heads.state_dict()
    for part in ("weight", "bias"):
        old, value = state[f"scene.{part}"], new.state_dict()[f"scene.{part}"].clone()
        for n, name in enumerate(names):
            if name in heads.config.scene_classes:
                value[n] = old[heads.config.scene_classes.index(name)]
        state[f"scene.{part}"] = value
    load_strict(new, state, "the dense heads")
    return new

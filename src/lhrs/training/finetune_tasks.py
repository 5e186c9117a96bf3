"""What differs between the tasks of `lhrs finetune`: head, dataset and initialization."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from lhrs.cmid.probes import fit_linear
from lhrs.downstream.backbone import weights_folder
from lhrs.downstream.classify import Classify
from lhrs.downstream.data import Mixing, PixelChance, Pixels, SceneChance, Scenes, join_pixels, join_scenes
from lhrs.downstream.detect.data import DetectionData, join_objects
from lhrs.downstream.predict import Predictor
from lhrs.training.finetune import FinetuneRecipe
from lhrs.training.finetune_config import (
    ChangeConfig,
    ClassifyConfig,
    DenseAugmentConfig,
    DetectConfig,
    SegmentConfig,
)
from lhrs.training.run_dir import is_main_process, newest_checkpoint

_BATCH = 64


class ClassifyRecipe(FinetuneRecipe[ClassifyConfig]):
    """Scene classification."""

    @property
    def freezes_bn(self) -> bool:
        return self.config.lp_ft

    def head(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        standardize = self.config.train_backbone in ("linear_probe", "none")
        return "linear", {"standardise": standardize}, {"dropout": self.config.dropout}

    def examples(self) -> tuple[Any, Callable[..., Any]]:
        config, augment = self.config, self.config.augment
        changes = SceneChance(
            crop=augment.crop_scale, symmetries=augment.d4, randaugment=augment.randaugment,
            colour=augment.color_jitter, erase=augment.random_erasing,
        )  # fmt: skip
        scenes = Scenes(self.train, self.image_input, config.image_size, config.seed, changes)
        mixing = Mixing(len(self.train.classes), augment.mixup, augment.cutmix, config.label_smoothing)
        return scenes, partial(join_scenes, mixing=mixing, seed=config.seed)

    def init_head(self) -> None:
        if self.config.lp_ft and newest_checkpoint(self.config.output_dir) is None:
            scenes = Scenes(self.train, self.image_input, self.config.image_size, center=self.config.center_crop)
            init_head_from_probe(self.predictor, scenes, self.config.seed)


class SegmentRecipe(FinetuneRecipe[SegmentConfig]):
    """Semantic segmentation."""

    def head(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        config = self.config
        training = {"class_weights": config.class_weights}
        if config.train_backbone == "linear_probe":
            return "linear", {}, training
        return config.head, {"width": config.decoder_channels, "auxiliary": config.aux_loss_weight}, training

    def examples(self) -> tuple[Any, Callable[..., Any]]:
        return _dense_examples(self, self.config.augment)


class ChangeRecipe(FinetuneRecipe[ChangeConfig]):
    """Change detection."""

    def head(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        name = "linear" if self.config.train_backbone == "linear_probe" else self.config.head
        return name, {}, {"class_weights": self.config.class_weights}

    def examples(self) -> tuple[Any, Callable[..., Any]]:
        return _dense_examples(self, self.config.augment)


class DetectRecipe(FinetuneRecipe[DetectConfig]):
    """Object detection."""

    @property
    def freezes_bn(self) -> bool:
        return self.config.backbone.pretrained or weights_folder(self.config.backbone.name) is not None

    def head(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        config = self.config
        layers = {
            "width": config.decoder_channels, "anchor_scale": config.anchor_scale, "proposals": config.num_proposals,
        }  # fmt: skip
        return "oriented" if config.oriented else "horizontal", layers, {}

    def examples(self) -> tuple[Any, Callable[..., Any]]:
        config = self.config
        dataset = DetectionData(
            self.train, self.image_input, config.image_size, config.oriented, config.augment, config.seed,
            config.tile_size,
        )  # fmt: skip
        return dataset, join_objects


def _dense_examples(recipe: FinetuneRecipe[Any], augment: DenseAugmentConfig) -> tuple[Any, Callable[..., Any]]:
    changes = PixelChance(
        zoom=augment.scale_range, symmetries=augment.d4, colour=augment.color_jitter, most=augment.cat_max_ratio,
        swap=augment.swap_dates,
    )  # fmt: skip
    config = recipe.config
    return Pixels(recipe.train, recipe.image_input, config.image_size, config.seed, changes), join_pixels


def init_head_from_probe(predictor: Predictor, scenes: Scenes, seed: int) -> None:
    """Initialize a classifier's head with a linear probe of its backbone.

    Every process does so, with the same result: they have the same weights and read the same images.
    """
    task = cast(Classify, predictor.task)
    features, targets = [], []
    with torch.inference_mode():
        for start in track(
            range(0, len(scenes), _BATCH), "features", console=Console(stderr=True), disable=not is_main_process()
        ):
            batch = [scenes[0, n] for n in range(start, min(start + _BATCH, len(scenes)))]
            pixels = torch.stack([sample["pixels"] for sample in batch]).to(predictor.device)
            features.append(task.features(pixels).float().cpu())
            targets += [sample["target"] for sample in batch]
    trainable = torch.cat(features).clone()  # outside of inference mode, which autograd refuses
    task.set_head(fit_linear(trainable, np.array(targets), len(predictor.card.classes), seed))

"""Labeled data of `lhrs finetune`: splits, normalization, and checks of augmentation."""

import re
import sys
from dataclasses import replace
from typing import Any, cast

from lhrs import fingerprint
from lhrs.downstream.labeled_dataset import LabeledDataset, open_labeled
from lhrs.downstream.task import get_task
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.normalization import Normalization
from lhrs.training.finetune_config import FinetuneConfig

_TILE_SUFFIX = re.compile(r"__\d+_\d+$")


def open_splits(config: FinetuneConfig) -> tuple[LabeledDataset, LabeledDataset, LabeledDataset | None]:
    """Return training, validation and test data.

    Raises:
        ConfigError: no reader fits.
        DataError: data is missing, classes differ, or an image is in two splits.
    """
    data, task = config.data, get_task(config.task)
    train, val, test = (
        None if split is None else open_labeled(config.task, split.path, split.format, split.split, split.include)
        for split in (data.train, data.val, data.test)
    )
    assert train is not None
    for name, split in (("train", train), ("val", val), ("test", test)):
        if split is not None and len(split.dropped):
            print(f"data.{name}: {split.dropped.summary()}", file=sys.stderr)
    if val is None:
        train, val = split_validation(train, data.val_fraction, config.seed)
    train = replace(train, classes=task.classes(config, train))
    if len(train.classes) < task.min_classes:
        raise DataError(f"{data.train.path} has only one class, {train.classes[0]!r}: at least two are needed.")
    split_of = {item.images: "train" for item in train.items}
    for name, split in (("val", val), ("test", test)):
        if split is None:
            continue
        odd = sorted(set(split.classes) - set(train.classes))
        if odd or (task.needs_equal_classes and split.classes != train.classes):
            raise DataError(f"data.{name} has other classes than data.train: {', '.join(odd or split.classes)}.")
        for item in split.items:
            if item.images in split_of:
                raise DataError(f"{item.images[0][0]} is in data.{split_of[item.images]} and in data.{name}.")
            split_of[item.images] = name
    return train, val, test


def split_validation(labeled: LabeledDataset, fraction: float, seed: int) -> tuple[LabeledDataset, LabeledDataset]:
    """Split items into training and validation by a hash of seed and id, which is the same on every machine.

    Overlapping tiles of one scene (`NAME__LEFT_TOP`) stay together.

    Raises:
        DataError: no training items are left.
    """
    scenes: dict[str, list[Any]] = {}
    for item in labeled.items:
        scenes.setdefault(_TILE_SUFFIX.sub("", item.id), []).append(item)
    wanted, held = max(1, round(fraction * len(labeled.items))), set[int]()
    for scene in sorted(scenes, key=lambda scene: fingerprint.sha256_of_bytes(f"{seed}/{scene}".encode())):
        if len(held) < wanted:
            held |= {id(item) for item in scenes[scene]}
    if len(held) == len(labeled.items):
        raise DataError(f"{len(held)} images do not divide into training and validation; set data.val.")
    return (
        replace(labeled, items=[item for item in labeled.items if id(item) not in held]),
        replace(labeled, items=[item for item in labeled.items if id(item) in held]),
    )


def resolve_normalization(
    config: FinetuneConfig, pretrained: Normalization | None, fitted: Normalization
) -> Normalization:
    """Return the run's own values, else those of the backbone's pretraining, else those fitted to the images.

    The backbone's maximum is used for images of its kind: of 8 bits, of integers or of floats.

    Raises:
        ConfigError: the run specifies another number of bands.
    """
    data = config.data
    changes: dict[str, Any] = {}
    if data.mean is not None:
        changes = {"mean": tuple(data.mean), "std": tuple(cast(Any, data.std))}
    elif pretrained is not None and len(pretrained.mean) == len(fitted.mean):
        changes = {"mean": pretrained.mean, "std": pretrained.std}
        if data.max_value is None and pretrained.dtype == fitted.dtype:
            changes["max_value"] = pretrained.max_value
    if any(len(changes.get(name, fitted.mean)) != len(fitted.mean) for name in ("mean", "std")):
        raise ConfigError(f"data.mean has {len(changes['mean'])} values, the images have {len(fitted.mean)} bands.")
    return fitted.model_copy(update=changes)


def check_color_augment(config: FinetuneConfig, normalization: Normalization) -> None:
    """Refuse color augmentation of values outside of 0-1, which it would clip.

    Raises:
        ConfigError: the mean of a band is outside.
    """
    augment = getattr(config, "augment", None)
    if getattr(augment, "color_jitter", 0) or getattr(augment, "randaugment", None):
        odd = next((x for x in normalization.mean if not 0 <= x <= 1), None)
        if odd is not None:
            raise ConfigError(
                f"a band's mean is {odd:.3g}, color augmentation needs values between 0 and 1: set data.max_value, or "
                "set augment.color_jitter to 0 and no randaugment."
            )

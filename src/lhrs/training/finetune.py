"""`lhrs finetune`: one task on top of a backbone, through the one training engine."""

import hashlib
import json
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from rich.console import Console
from rich.progress import track
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.cmid.probes import fit_linear
from lhrs.downstream import data as input_data
from lhrs.downstream.backbone import Encoder, weights_folder
from lhrs.downstream.card import Card, EncoderCard
from lhrs.downstream.classify import Classify
from lhrs.downstream.data import Mixing, Pixels, Scenes, join_pixels, join_scenes
from lhrs.downstream.detect.data import DetectionData, join_objects
from lhrs.downstream.inputs import ImageInput, fit_normalization
from lhrs.downstream.predict import Predictor, save
from lhrs.downstream.reader import Labelled, open_labelled
from lhrs.downstream.score import CHOSEN_BY, score
from lhrs.downstream.task import Task, build_task
from lhrs.errors import ConfigError, DataError
from lhrs.files import write_file, write_tensors
from lhrs.imagery.normalization import Normalization
from lhrs.training.engine import KeyedTrainer, diverged, fit, newest_checkpoint, split_batch, training_arguments
from lhrs.training.finetune_run import ChangeRun, ClassifyRun, DetectRun, FinetuneRun, SegmentRun
from lhrs.training.output import (
    Record,
    is_main_process,
    is_to_do,
    load_tensors,
    mark_finished,
    open_run,
)
from lhrs.training.schedule import make_groups, make_optimizer_of, make_schedule_of
from lhrs.training.trainable import print_trainable

MODEL = "model"
"""Folder of the result inside the run."""
SCORES = "scores.json"
_BATCH = 64
_OF_TILE = re.compile(r"__\d+_\d+$")
_BEST = "best.json"
_BETAS = {"adan": (0.98, 0.92, 0.99), "adamw": (0.9, 0.999)}


class FinetuneTrainer(KeyedTrainer):
    """Trains what a run says of a task, lower layers less if it says so."""

    def __init__(self, run: FinetuneRun, task: Task, **kwargs: Any) -> None:
        super().__init__(model=task, **kwargs)
        self._run, self._task = run, task
        self.model_accepts_loss_kwargs = False

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        settings = self._run.fit
        groups = make_task_groups(self._run, self._task)
        if settings.optimizer == "sgd":
            self.optimizer: Any = torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
        else:
            betas = _BETAS[settings.optimizer]
            self.optimizer = make_optimizer_of(groups, settings.optimizer, settings.lr, betas, 1e-8)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        settings = self._run.fit
        warm = round(settings.warmup * num_training_steps)
        target = optimizer or cast(torch.optim.Optimizer, self.optimizer)
        self.lr_scheduler = make_schedule_of(target, settings.min_lr, warm, 0.01, num_training_steps, settings.schedule)
        self._created_lr_scheduler = True
        return self.lr_scheduler


class KeepBest(TrainerCallback):
    """Score the validation split evenly over the run and keep the weights that were best; the earlier of two equals.

    `best.json` and the file it names are all there is to it, so a run that was killed goes on with what it kept: steps
    that are done again score the same again.
    """

    def __init__(self, out: Path, predictor: Predictor, labelled: Labelled, times: int, trainer: KeyedTrainer) -> None:
        self.out, self.predictor, self.labelled, self.times, self.trainer = out, predictor, labelled, times, trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        due = {round(state.max_steps * n / self.times) for n in range(1, self.times + 1)}
        if state.global_step not in due or not is_main_process():
            return
        task = self.predictor.task
        if not all(parameter.isfinite().all() for parameter in task.parameters()):
            raise diverged(state.global_step)
        task.eval()
        found = score(self.predictor, self.labelled)
        task.train()
        numbers = {k: v for k, v in found.items() if isinstance(v, float)}
        self.trainer.log_beside({f"val_{name}": value for name, value in numbers.items()})
        value = numbers.get(CHOSEN_BY[self.predictor.card.task], -1.0)
        before = read_best(self.out)
        if before is None or self._is_better(value, state.global_step, before):
            file = f"best-{state.global_step}.safetensors"
            write_tensors(self.out / file, dict(task.state_dict()))
            best = {"step": state.global_step, "value": value, "file": file, "scores": numbers}
            write_file(self.out / _BEST, json.dumps(best) + "\n")
            if before is not None and before["file"] != file:
                (self.out / before["file"]).unlink(missing_ok=True)

    @staticmethod
    def _is_better(value: float, step: int, before: dict[str, Any]) -> bool:
        """Of equals the earlier, which is simpler; but the later where nothing was right, or nothing could be."""
        if value != before["value"]:
            return value > before["value"]
        return step < before["step"] if value > 0 else step > before["step"]


def read_best(out: Path) -> dict[str, Any] | None:
    """Return what `best.json` says; None if nothing was scored yet."""
    path = out / _BEST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def finetune(run: FinetuneRun) -> None:
    """Train; the result is `model/`, chosen on the validation split, and `scores.json`.

    Raises:
        ConfigError: the run contradicts itself or what its folder holds, or there is no such backbone.
        DataError: an image or a label is missing or cannot be read.
        CheckpointError: the backbone's weights do not fit.
    """
    if not is_to_do(run):
        return
    run.check_at_once(split_batch(run.fit.batch_size, run.fit.micro_batch_size)[0])
    kind = run.kind.removeprefix("finetune-")  # type: ignore[attr-defined]
    train, val, test = open_parts(run, kind)
    torch.manual_seed(run.seed)
    source = run.backbone
    bands = None if run.data.bands is None else tuple(run.data.bands)
    fitted = fit_normalization(train, bands, run.data.scale)
    encoder = Encoder(source.name, len(fitted.mean), source.args, source.pretrained)
    image_input = ImageInput(resolve_normalization(run, encoder.normalization, fitted), encoder.interpolation)
    check_colour(run, image_input.normalization)
    if run.tune in ("frozen", "linear"):
        encoder.freeze()
    encoder.fixed_norm = keeps_norm(run)
    if isinstance(run, DetectRun):
        freeze_stages(encoder, run.frozen_stages)
    head, layers, learning = _head(run, len(train.classes))
    task = build_task(kind, encoder, len(train.classes), head, **layers, **learning)
    card = Card(
        task=cast(Any, kind), encoder=EncoderCard.model_validate(encoder.settings), head=head, head_args=layers,
        classes=train.classes, normalization=image_input.normalization,
        interpolation=cast(Any, image_input.interpolation), size=run.size,
        center=getattr(run, "center", 1.0), overlap=getattr(run, "overlap", 0.5),
        tile=getattr(run, "tile", 1024), gap=getattr(run, "gap", 200),
    )  # fmt: skip
    record = Record(kind=cast(Any, run).kind)
    open_run(run, record)
    print_trainable(task, lambda name: name.split(".")[0])
    dataset, join = _examples(run, train, image_input)
    settings = run.fit
    length = {"num_train_epochs": settings.epochs} if settings.epochs is not None else {"max_steps": settings.steps}
    arguments = training_arguments(
        run, settings.batch_size, settings.micro_batch_size, learning_rate=settings.lr,
        max_grad_norm=settings.max_grad_norm, ddp_find_unused_parameters=True, **length,
    )  # fmt: skip  # a backbone may have layers that no map passes through, such as the norm of ConvNeXt's head
    trainer = FinetuneTrainer(run, task, args=arguments, train_dataset=dataset, data_collator=join)
    predictor = Predictor(card, task, str(trainer.args.device))
    if isinstance(run, ClassifyRun) and run.probe_first and newest_checkpoint(run.out) is None:
        begin_with_probe(predictor, Scenes(train, image_input, run.size, center=run.center), run.seed)
    task.train()
    trainer.add_callback(KeepBest(run.out, predictor, val, run.validations, trainer))
    fit(trainer)
    if is_main_process():
        _finish(run, predictor, test)
        mark_finished(run.out, record)
    PartialState().wait_for_everyone()  # the others must not leave while the first one writes


def _finish(run: FinetuneRun, predictor: Predictor, test: Labelled | None) -> None:
    best = read_best(run.out)
    assert best is not None  # the last step is always scored
    predictor.task.load_state_dict(load_tensors(run.out / best["file"]))
    predictor.task.eval()
    card = predictor.card.model_copy(update={"scores": best["scores"]})
    save(run.out / MODEL, card, predictor.task)
    found: dict[str, Any] = {"step": best["step"], "validation": best["scores"]}
    if test is not None:
        found["test"] = score(predictor, test)
    write_file(run.out / SCORES, json.dumps(found, indent=1) + "\n")
    for name in ("validation", "test"):
        numbers = [f"{key}={value:.4g}" for key, value in found.get(name, {}).items() if isinstance(value, float)]
        if numbers:
            print(f"{name} {' '.join(numbers)}", file=sys.stderr)


def open_parts(run: FinetuneRun, kind: str) -> tuple[Labelled, Labelled, Labelled | None]:
    """Return what is learned from, what chooses, and what is scored at the end.

    Raises:
        ConfigError: no reader fits.
        DataError: data is missing, classes differ, or an image is in two of them.
    """
    data = run.data
    train, val, test = (
        None if part is None else open_labelled(kind, part.path, part.reader, part.split, part.only)
        for part in (data.train, data.val, data.test)
    )
    assert train is not None
    for name, part in (("train", train), ("val", val), ("test", test)):
        if part is not None and len(part.dropped):
            print(f"data.{name}: {part.dropped.summary()}", file=sys.stderr)
    if val is None:
        train, val = hold_out(train, data.val_share, run.seed)
    if isinstance(run, DetectRun) and run.classes is not None:
        if odd := sorted(set(train.classes) - set(run.classes)):
            raise DataError(f"data.train has objects of class {odd[0]!r}, which is not among `classes`.")
        train = replace(train, classes=run.classes)
    if kind != "detect" and len(train.classes) < 2:
        raise DataError(f"{data.train.path} has only one class, {train.classes[0]!r}: there is nothing to tell apart.")
    weights = getattr(run, "class_weights", None)
    if weights is not None and len(weights) != len(train.classes):
        raise ConfigError(f"class_weights has {len(weights)} numbers, there are {len(train.classes)} classes.")
    seen = {item.images: "train" for item in train.items}
    for name, part in (("val", val), ("test", test)):
        if part is None:
            continue
        odd = sorted(set(part.classes) - set(train.classes))
        if odd or (kind in ("segment", "change") and part.classes != train.classes):
            raise DataError(f"data.{name} has other classes than data.train: {', '.join(odd or part.classes)}.")
        for item in part.items:
            if item.images in seen:
                raise DataError(f"{item.images[0][0]} is in data.{seen[item.images]} and in data.{name}.")
            seen[item.images] = name
    return train, val, test


def hold_out(labelled: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Return a split without and with a share of the items, by a hash of seed and id: the same on every machine.

    Tiles of one scene (`NAME__LEFT_TOP`), which overlap, stay together.

    Raises:
        DataError: there is nothing left to learn from.
    """
    scenes: dict[str, list[Any]] = {}
    for item in labelled.items:
        scenes.setdefault(_OF_TILE.sub("", item.id), []).append(item)
    wanted, held = max(1, round(share * len(labelled.items))), set[int]()
    for scene in sorted(scenes, key=lambda scene: hashlib.sha256(f"{seed}/{scene}".encode()).digest()):
        if len(held) < wanted:
            held |= {id(item) for item in scenes[scene]}
    if len(held) == len(labelled.items):
        raise DataError(f"{len(held)} images do not divide into training and validation; name data.val.")
    return (
        replace(labelled, items=[item for item in labelled.items if id(item) not in held]),
        replace(labelled, items=[item for item in labelled.items if id(item) in held]),
    )


def resolve_normalization(run: FinetuneRun, pretrained: Normalization | None, fitted: Normalization) -> Normalization:
    """Return the run's own values, else those that the backbone was pretrained with, else those fitted to the images.

    The backbone's maximum is taken for images of its kind: of 8 bits, of integers or of floats.

    Raises:
        ConfigError: the run names another number of bands.
    """
    changes: dict[str, Any] = {}
    if run.data.mean is not None:
        changes = {"mean": tuple(run.data.mean), "std": tuple(cast(Any, run.data.std))}
    elif pretrained is not None and len(pretrained.mean) == len(fitted.mean):
        changes = {"mean": pretrained.mean, "std": pretrained.std}
        if run.data.scale is None and pretrained.dtype == fitted.dtype:
            changes["max_value"] = pretrained.max_value
    if any(len(changes.get(name, fitted.mean)) != len(fitted.mean) for name in ("mean", "std")):
        raise ConfigError(f"data.mean has {len(changes['mean'])} values, the images have {len(fitted.mean)} bands.")
    return fitted.model_copy(update=changes)


def check_colour(run: FinetuneRun, normalization: Normalization) -> None:
    """Refuse to change colours of what is none.

    Raises:
        ConfigError: numbers do not lie between 0 and 1, where such changes would cut them off.
    """
    changes = getattr(run, "augment", None)
    if getattr(changes, "colour", 0) or getattr(changes, "randaugment", None):
        odd = next((x for x in normalization.mean if not 0 <= x <= 1), None)
        if odd is not None:
            raise ConfigError(
                f"a band's mean is {odd:.3g}, colours change between 0 and 1: set data.scale to the number that means "
                "1, or augment.colour to 0 and no randaugment."
            )


def begin_with_probe(predictor: Predictor, scenes: Scenes, seed: int) -> None:
    """Give a classifier of scenes the head that suits its backbone as it is.

    Every process does so, for the same head: they have the same weights and look at the same images.
    """
    task = cast(Classify, predictor.task)
    features, targets = [], []
    with torch.inference_mode():
        for at in track(
            range(0, len(scenes), _BATCH), "features", console=Console(stderr=True), disable=not is_main_process()
        ):
            batch = [scenes[0, n] for n in range(at, min(at + _BATCH, len(scenes)))]
            pixels = torch.stack([one["pixels"] for one in batch]).to(predictor.device)
            features.append(task.features(pixels).float().cpu())
            targets += [one["target"] for one in batch]
    found = torch.cat(features).clone()  # outside of inference mode, which learning does not take
    task.set_head(fit_linear(found, np.array(targets), len(predictor.card.classes), seed))


def keeps_norm(run: FinetuneRun) -> bool:
    """Tell whether batch norms of the backbone keep their statistics."""
    if run.fixed_norm is not None:
        return run.fixed_norm
    if isinstance(run, DetectRun):
        return run.backbone.pretrained or weights_folder(run.backbone.name) is not None
    return isinstance(run, ClassifyRun) and run.probe_first


def freeze_stages(encoder: Encoder, count: int) -> None:
    """Let the first stages and what comes before them learn nothing; 0 leaves all as it is.

    Raises:
        ConfigError: timm does not say which weights are in which stage.
    """
    if not count:
        return
    matcher = getattr(encoder.model, "group_matcher", None)
    if matcher is None:
        raise ConfigError(f"frozen_stages: timm does not know the stages of {encoder.settings['name']}.")
    stages = group_parameters(encoder.model, matcher(coarse=True))
    frozen = {name for names in list(stages.values())[: count + 1] for name in names}
    for name, parameter in encoder.model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def make_task_groups(run: FinetuneRun, task: Task) -> list[dict[str, Any]]:
    """Group what learns; with `layer-decay` each layer of the backbone at its own rate."""
    settings = run.fit
    if run.tune != "layer-decay":
        return make_groups(task, settings.weight_decay, ("pos_embed", "cls_token", "relative_position_bias_table"))
    found = param_groups_layer_decay(
        task.encoder.model, settings.weight_decay, layer_decay=settings.layer_decay,
        no_weight_decay_list=("*relative_position_bias_table",),
    )  # fmt: skip
    # timm counts from a head of its own, which is not here: ours is the layer above the last.
    top = settings.lr * settings.layer_decay / max(group["lr_scale"] for group in found)
    groups = [{"params": g["params"], "weight_decay": g["weight_decay"], "lr": top * g["lr_scale"]} for g in found]
    lower = {id(p) for group in groups for p in cast(list, group["params"])}
    rest = [(name, p) for name, p in task.named_parameters() if p.requires_grad and id(p) not in lower]
    for decays in (True, False):
        of = [p for _, p in rest if (p.ndim >= 2) == decays]
        if of:
            groups.append({"params": of, "weight_decay": settings.weight_decay if decays else 0.0, "lr": settings.lr})
    return groups


def _head(run: FinetuneRun, num_classes: int) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the head's name, what its layers follow from, and what only learning needs."""
    linear = run.tune == "linear"
    if isinstance(run, ClassifyRun):
        return "linear", {"standardise": run.tune in ("linear", "frozen")}, {"dropout": run.dropout}
    if isinstance(run, SegmentRun):
        layers = {} if linear else {"width": run.width, "auxiliary": run.auxiliary}
        return "linear" if linear else run.head, layers, {"class_weights": run.class_weights}
    if isinstance(run, DetectRun):
        layers = {"width": run.width, "anchor_scale": run.anchor_scale, "proposals": run.proposals}
        return "oriented" if run.oriented else "horizontal", layers, {}
    assert isinstance(run, ChangeRun)
    return "linear" if linear else run.head, {}, {"class_weights": run.class_weights}


def _examples(run: FinetuneRun, train: Labelled, image_input: ImageInput) -> tuple[Any, Any]:
    """Return the data set, and what makes batches of it."""
    if isinstance(run, ClassifyRun):
        settings = run.augment.model_dump(exclude={"mixup", "cutmix"})
        scenes = Scenes(train, image_input, run.size, run.seed, input_data.SceneChance(**settings))
        mixing = Mixing(len(train.classes), run.augment.mixup, run.augment.cutmix, run.smoothing)
        return scenes, partial(join_scenes, mixing=mixing, seed=run.seed)
    if isinstance(run, DetectRun):
        return DetectionData(train, image_input, run.size, run.oriented, run.augment, run.seed, run.tile), join_objects
    assert isinstance(run, SegmentRun | ChangeRun)
    chance = input_data.PixelChance(**run.augment.model_dump())
    return Pixels(train, image_input, run.size, run.seed, chance), join_pixels

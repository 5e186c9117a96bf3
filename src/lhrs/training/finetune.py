"""Finetuning of a backbone on a task; `lhrs.training.finetune_tasks` has what differs between tasks.

The result is `model/`, the best of several evaluations on the validation data, and `scores.json`.
"""

import json
import shutil
import sys
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.downstream.backbone import Encoder
from lhrs.downstream.card import WEIGHTS, Card, EncoderCard
from lhrs.downstream.inputs import ImageInput, fit_normalization
from lhrs.downstream.predict import Predictor, save
from lhrs.downstream.reader import Labelled
from lhrs.downstream.score import CHOSEN_BY, score
from lhrs.downstream.task import Task, build_task
from lhrs.errors import ConfigError
from lhrs.files import write_file
from lhrs.models.state_dict import load_strict
from lhrs.training import data_fingerprint
from lhrs.training.finetune_config import FinetuneConfig
from lhrs.training.finetune_data import check_color_augment, open_splits, resolve_normalization
from lhrs.training.optim import make_groups
from lhrs.training.recipe import Recipe
from lhrs.training.run_dir import is_main_process, load_tensors
from lhrs.training.trainer import Trainer as LHRSTrainer
from lhrs.training.trainer import divergence_error, split_batch

SCORES = "scores.json"
_BEST = "best.json"

TaskConfigT = TypeVar("TaskConfigT", bound=FinetuneConfig)


class FinetuneRecipe(Recipe[TaskConfigT]):
    """Finetuning on a task."""

    arguments = {"ddp_find_unused_parameters": True}  # a backbone may have unused layers, such as ConvNeXt's last norm

    def __init__(self, config: TaskConfigT) -> None:
        super().__init__(config)
        self.optim = config.optim

    @abstractmethod
    def head(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Return the head's name, the arguments of its layers, and those that only training needs."""

    @abstractmethod
    def examples(self) -> tuple[Any, Callable[..., Any]]:
        """Return the dataset and its collate function."""

    @property
    def freezes_bn(self) -> bool:
        """Whether batch norms of the backbone keep their statistics, where the run does not specify it."""
        return False

    def open_data(self) -> dict[str, str]:
        config = self.config
        config.check_micro_batch(split_batch(config.optim.batch_size, config.optim.micro_batch_size)[0])
        self.train, self.val, self.test = open_splits(config)
        data = config.data
        fingerprints = data_fingerprint.of_labeled("train", data.train.path, self.train)
        fingerprints |= data_fingerprint.of_labeled("val", (data.val or data.train).path, self.val)
        if self.test is not None:
            fingerprints |= data_fingerprint.of_labeled("test", cast(Any, data.test).path, self.test)
        return fingerprints

    def build(self) -> Task:
        config, data, source = self.config, self.config.data, self.config.backbone
        bands = None if data.bands is None else tuple(data.bands)
        fitted = fit_normalization(self.train, bands, data.max_value)
        encoder = Encoder(source.name, len(fitted.mean), source.args, source.pretrained)
        normalization = resolve_normalization(config, encoder.normalization, fitted)
        self.image_input = ImageInput(normalization, encoder.interpolation)
        check_color_augment(config, normalization)
        if config.train_backbone in ("none", "linear_probe"):
            encoder.freeze()
        encoder.fixed_norm = self.freezes_bn if config.freeze_bn is None else config.freeze_bn
        freeze_stages(encoder, getattr(config, "frozen_stages", 0))
        name, layers, learning = self.head()
        self.task = build_task(config.task, encoder, len(self.train.classes), name, **layers, **learning)
        self.card = Card(
            task=cast(Any, config.task), encoder=EncoderCard.model_validate(encoder.settings), head=name,
            head_args=layers, classes=self.train.classes, normalization=normalization,
            interpolation=cast(Any, encoder.interpolation), size=config.image_size,
            center=getattr(config, "center_crop", 1.0), overlap=getattr(config, "overlap", 0.5),
            tile=getattr(config, "tile_size", 1024), gap=getattr(config, "tile_overlap", 200),
        )  # fmt: skip
        return self.task

    def dataset(self) -> tuple[Any, Callable[..., Any]]:
        return self.examples()

    def param_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        return make_task_groups(self.config, self.task)

    def callbacks(self, trainer: Trainer) -> list[TrainerCallback]:
        self.predictor = Predictor(self.card, self.task, str(trainer.args.device))
        self.init_head()
        self.task.train()
        config = self.config
        return [SaveBest(config.output_dir, self.predictor, self.val, config.num_evals, cast(LHRSTrainer, trainer))]

    def init_head(self) -> None:
        """Initialize the head of a new run, for tasks that do not start from random values."""

    def metrics(self, trainer: Trainer, means: dict[str, float]) -> dict[str, float]:
        return {}

    def save(self, trainer: Trainer, state: Any) -> None:
        out, best = self.config.output_dir, read_best(self.config.output_dir)
        assert best is not None  # the last step is always evaluated
        folder = out / best["folder"] if (out / best["folder"]).exists() else self.model_dir
        load_strict(self.task, load_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
        self.task.eval()
        scores: dict[str, Any] = {"step": best["step"], "validation": best["scores"]}
        if self.test is not None:
            scores["test"] = score(self.predictor, self.test)
        write_file(out / SCORES, json.dumps(scores, indent=1) + "\n")
        if folder != self.model_dir:
            shutil.rmtree(self.model_dir, ignore_errors=True)
            folder.replace(self.model_dir)
        for name in ("validation", "test"):
            values = [f"{key}={value:.4g}" for key, value in scores.get(name, {}).items() if isinstance(value, float)]
            if values:
                print(f"{name} {' '.join(values)}", file=sys.stderr)

    def module_of(self, name: str) -> str:
        return name.split(".")[0]


class SaveBest(TrainerCallback):
    """Evaluate on the validation data evenly over the run and save the best model; the earlier of two equals.

    `best.json` and the folder that it names are the whole state, so a killed run resumes with them: steps that are
    repeated score the same again.
    """

    def __init__(self, out: Path, predictor: Predictor, labeled: Labelled, times: int, trainer: LHRSTrainer) -> None:
        self.out, self.predictor, self.labeled, self.times, self.trainer = out, predictor, labeled, times, trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        due = {round(state.max_steps * n / self.times) for n in range(1, self.times + 1)}
        if state.global_step not in due or not is_main_process():
            return
        task = self.predictor.task
        if not all(parameter.isfinite().all() for parameter in task.parameters()):
            raise divergence_error(state.global_step)
        task.eval()
        result = score(self.predictor, self.labeled)
        task.train()
        scores = {name: value for name, value in result.items() if isinstance(value, float)}
        self.trainer.log_extra({f"val_{name}": value for name, value in scores.items()})
        value = scores.get(CHOSEN_BY[self.predictor.card.task], -1.0)
        before = read_best(self.out)
        if before is None or self._is_better(value, state.global_step, before):
            folder = f"best-{state.global_step}"
            save(self.out / folder, self.predictor.card.model_copy(update={"scores": scores}), task)
            best = {"step": state.global_step, "value": value, "folder": folder, "scores": scores}
            write_file(self.out / _BEST, json.dumps(best) + "\n")
            if before is not None and before["folder"] != folder:
                shutil.rmtree(self.out / before["folder"], ignore_errors=True)

    @staticmethod
    def _is_better(value: float, step: int, before: dict[str, Any]) -> bool:
        """Prefer the earlier of equals, but the later where the score is 0 or undefined."""
        if value != before["value"]:
            return value > before["value"]
        return step < before["step"] if value > 0 else step > before["step"]


def read_best(out: Path) -> dict[str, Any] | None:
    """Return the contents of `best.json`; None if nothing was evaluated yet."""
    path = out / _BEST
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def freeze_stages(encoder: Encoder, count: int) -> None:
    """Freeze the stem and the first stages; 0 freezes nothing.

    Raises:
        ConfigError: timm does not specify which weights are in which stage.
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


def make_task_groups(config: FinetuneConfig, task: Task) -> list[dict[str, Any]]:
    """Return parameter groups; with `train_backbone: layerwise` each layer of the backbone has its own rate."""
    settings = config.optim
    if config.train_backbone != "layerwise":
        return make_groups(task, settings.weight_decay, ("pos_embed", "cls_token", "relative_position_bias_table"))
    layers = param_groups_layer_decay(
        task.encoder.model, settings.weight_decay, layer_decay=settings.layer_decay,
        no_weight_decay_list=("*relative_position_bias_table",),
    )  # fmt: skip
    # timm counts from a head of its own, which does not exist here: ours is the layer above the last.
    top = settings.lr * settings.layer_decay / max(group["lr_scale"] for group in layers)
    groups = [{"params": g["params"], "weight_decay": g["weight_decay"], "lr": top * g["lr_scale"]} for g in layers]
    lower = {id(p) for group in groups for p in cast(list, group["params"])}
    rest = [(name, p) for name, p in task.named_parameters() if p.requires_grad and id(p) not in lower]
    for decays in (True, False):
        group = [p for _, p in rest if (p.ndim >= 2) == decays]
        if group:
            decay = settings.weight_decay if decays else 0.0
            groups.append({"params": group, "weight_decay": decay, "lr": settings.lr})
    return groups

"""Finetuning of a backbone on a task; `lhrs.downstream.tasks` has what differs between tasks.

The result is `model/`, the best of several evaluations on the validation data, and `scores.json`.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from timm.optim import param_groups_layer_decay
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.atomic_io import write_atomic
from lhrs.downstream.backbone import Backbone, backbone_dir
from lhrs.downstream.evaluate import evaluate
from lhrs.downstream.inputs import ImageInput, fit_normalization
from lhrs.downstream.labeled_dataset import LabeledDataset
from lhrs.downstream.model_config import WEIGHTS, EncoderConfig, ModelConfig
from lhrs.downstream.network import TaskNetwork
from lhrs.downstream.predict import Predictor, save
from lhrs.downstream.task import get_task
from lhrs.models.state_dict import load_strict, read_safetensors
from lhrs.training import data_fingerprint
from lhrs.training.finetune_config import FinetuneConfig
from lhrs.training.finetune_data import check_color_augment, open_splits, resolve_normalization
from lhrs.training.optim import make_groups
from lhrs.training.recipe import Recipe, run
from lhrs.training.run_dir import is_main_process, newest_checkpoint
from lhrs.training.trainer import Trainer as LHRSTrainer
from lhrs.training.trainer import divergence_error, split_batch

SCORES = "scores.json"
_BEST = "best.json"


def train_task(config: FinetuneConfig) -> None:
    """Train a model of a task; see `lhrs.training.recipe.run`."""
    run(FinetuneRecipe(config))


class FinetuneRecipe(Recipe[FinetuneConfig]):
    """Finetuning on a task."""

    arguments = {"ddp_find_unused_parameters": True}  # a backbone may have unused layers, such as ConvNeXt's last norm

    def __init__(self, config: FinetuneConfig) -> None:
        super().__init__(config)
        self.task = get_task(config.task)
        self.optim = config.optim

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

    def build(self) -> TaskNetwork:
        config, data, source = self.config, self.config.data, self.config.backbone
        bands = None if data.bands is None else tuple(data.bands)
        fitted = fit_normalization(self.train, bands, data.max_value)
        encoder = Backbone(source.name, len(fitted.mean), source.args, source.pretrained)
        normalization = resolve_normalization(config, encoder.normalization, fitted)
        self.image_input = ImageInput(normalization, encoder.interpolation)
        check_color_augment(config, normalization)
        if config.train_backbone in ("none", "linear_probe"):
            encoder.freeze()
        is_pretrained = source.pretrained or backbone_dir(source.name) is not None
        freezes_bn = self.task.freezes_bn(config, is_pretrained)
        encoder.fixed_norm = freezes_bn if config.freeze_bn is None else config.freeze_bn
        self.task.prepare_backbone(config, encoder)
        head, classes = self.task.head(config), self.train.classes
        self.network = self.task.build_network(encoder, len(classes), head.name, **head.args, **head.training_args)
        self.model_config = ModelConfig(
            task=config.task, encoder=EncoderConfig.model_validate(encoder.settings), head=head.name,
            head_args=head.args, classes=classes, normalization=normalization,
            interpolation=cast(Any, encoder.interpolation), image_size=config.image_size,
            inference=self.task.inference(config),
        )  # fmt: skip
        return self.network

    def dataset(self) -> tuple[Any, Callable[..., Any]]:
        return self.task.training_data(self.config, self.train, self.image_input)

    def param_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        return make_task_groups(self.config, self.network)

    def callbacks(self, trainer: Trainer) -> list[TrainerCallback]:
        self.predictor = Predictor(self.model_config, self.network, str(trainer.args.device))
        if newest_checkpoint(self.config.output_dir) is None:
            self.task.initialize_head(self.config, self.predictor, self.train)
        self.network.train()
        config = self.config
        return [SaveBest(config.output_dir, self.predictor, self.val, config.num_evals, cast(LHRSTrainer, trainer))]

    def metrics(self, trainer: Trainer, means: dict[str, float]) -> dict[str, float]:
        return {}

    def save(self, trainer: Trainer, state: Any) -> None:
        out, best = self.config.output_dir, read_best(self.config.output_dir)
        assert best is not None  # the last step is always evaluated
        folder = out / best["folder"] if (out / best["folder"]).exists() else self.model_dir
        load_strict(self.network, read_safetensors(folder / WEIGHTS), str(folder / WEIGHTS))
        self.network.eval()
        scores: dict[str, Any] = {"step": best["step"], "validation": best["scores"]}
        if self.test is not None:
            scores["test"] = evaluate(self.predictor, self.test)
        write_atomic(out / SCORES, json.dumps(scores, indent=1) + "\n")
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

    def __init__(
        self, out: Path, predictor: Predictor, labeled: LabeledDataset, times: int, trainer: LHRSTrainer
    ) -> None:
        self.out, self.predictor, self.labeled, self.times, self.trainer = out, predictor, labeled, times, trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        due = {round(state.max_steps * n / self.times) for n in range(1, self.times + 1)}
        if state.global_step not in due or not is_main_process():
            return
        network, config = self.predictor.network, self.predictor.config
        if not all(parameter.isfinite().all() for parameter in network.parameters()):
            raise divergence_error(state.global_step)
        network.eval()
        result = evaluate(self.predictor, self.labeled)
        network.train()
        scores = {name: value for name, value in result.items() if isinstance(value, float)}
        self.trainer.log_extra({f"val_{name}": value for name, value in scores.items()})
        value = scores.get(self.predictor.task.monitor, -1.0)
        before = read_best(self.out)
        if before is None or self._is_better(value, state.global_step, before):
            folder = f"best-{state.global_step}"
            save(self.out / folder, config.model_copy(update={"scores": scores}), network)
            best = {"step": state.global_step, "value": value, "folder": folder, "scores": scores}
            write_atomic(self.out / _BEST, json.dumps(best) + "\n")
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


def make_task_groups(config: FinetuneConfig, network: TaskNetwork) -> list[dict[str, Any]]:
    """Return parameter groups; with `train_backbone: layerwise` each layer of the backbone has its own rate."""
    settings = config.optim
    if config.train_backbone != "layerwise":
        return make_groups(network, settings.weight_decay, ("pos_embed", "cls_token", "relative_position_bias_table"))
    layers = param_groups_layer_decay(
        network.encoder.model, settings.weight_decay, layer_decay=settings.layer_decay,
        no_weight_decay_list=("*relative_position_bias_table",),
    )  # fmt: skip
    # timm counts from a head of its own, which does not exist here: ours is the layer above the last.
    top = settings.lr * settings.layer_decay / max(group["lr_scale"] for group in layers)
    groups = [{"params": g["params"], "weight_decay": g["weight_decay"], "lr": top * g["lr_scale"]} for g in layers]
    lower = {id(p) for group in groups for p in cast(list, group["params"])}
    rest = [(name, p) for name, p in network.named_parameters() if p.requires_grad and id(p) not in lower]
    for decays in (True, False):
        group = [p for _, p in rest if (p.ndim >= 2) == decays]
        if group:
            decay = settings.weight_decay if decays else 0.0
            groups.append({"params": group, "weight_decay": decay, "lr": settings.lr})
    return groups

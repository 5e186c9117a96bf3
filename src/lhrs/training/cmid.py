"""CMID pretraining of a backbone on images without labels.

The result is `model/`, the student as a timm folder, and `pretraining.safetensors` with everything else: teacher, heads
and queue, from which another run can start (`init_from`).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.atomic_io import atomic_dir, save_safetensors
from lhrs.cmid.backbone import checkpoint_activations, create_backbone, recompute_bn_stats
from lhrs.cmid.model import CMID
from lhrs.cmid.probes import FeatureExtractor
from lhrs.cmid.step_figures import draw_step
from lhrs.cmid.teacher import ema_momentum, update_teacher
from lhrs.cmid.two_views import TwoViewDataset, augment_and_normalize, collate, mean_std_tensors, resize_full_window
from lhrs.data.training_sets import locate
from lhrs.data.unlabeled import UnlabeledWindows
from lhrs.errors import ConfigError
from lhrs.imagery.normalization import Normalization, dtype_kind
from lhrs.models.importers.backbone_checkpoint import load_backbone_checkpoint
from lhrs.models.state_dict import load_strict, read_safetensors
from lhrs.models.timm_io import write_timm_folder
from lhrs.training import data_fingerprint
from lhrs.training.cmid_config import CMIDConfig
from lhrs.training.monitor import FeatureMonitor, check_monitored
from lhrs.training.optim import make_groups
from lhrs.training.recipe import MODEL, Recipe, run
from lhrs.training.run_dir import is_main_process
from lhrs.training.trainer import Trainer as LHRSTrainer

WEIGHTS = "pretraining.safetensors"
"""All but the student's backbone, which is in `model/`."""
_STUDENT = "student.model."
_INITIAL_WEIGHTS = ("pretrained", "checkpoint_path")
"""Arguments of `timm.create_model` that do not describe the architecture."""
_BN_IMAGES = 2048
_FIT_IMAGES = 256
_TEMPERATURE_WARMUP = 0.25


def train_cmid(config: CMIDConfig) -> None:
    """Train a backbone by CMID; see `lhrs.training.recipe.run`."""
    run(CMIDRecipe(config))


class CMIDRecipe(Recipe[CMIDConfig]):
    """CMID: student, teacher and their losses."""

    betas = {"adan": (0.98, 0.92, 0.99), "adamw": (0.9, 0.95)}

    def __init__(self, config: CMIDConfig) -> None:
        super().__init__(config)
        self.optim = config.optim

    @property
    def peak_lr(self) -> float:
        return self.config.optim.peak_lr

    def open_data(self) -> dict[str, str]:
        data = self.config.data
        paths = [locate(path) for path in data.paths]
        self.windows = UnlabeledWindows(paths, data.window_size, data.bands, self.config.seed)
        return data_fingerprint.of_windows(paths, self.windows)

    def build(self) -> nn.Module:
        config, backbone = self.config, self.config.backbone
        self.normalization = fit_normalization(config, self.windows)
        torch.manual_seed(config.seed)
        module = build_cmid(config, self.windows.in_chans)
        if config.init_from is not None:
            load_pretraining(module, config.init_from)
        checkpoint_activations(module.student.model, backbone.activation_checkpointing)
        if config.sync_batch_norm:
            if config.device == "cpu" or not torch.cuda.is_available():
                raise ConfigError("sync_batch_norm needs GPUs: torch shares batch-norm statistics only there.")
            module = cast(CMID, convert_sync_batchnorm(module))  # timm's: torch's drops activations in timm's norms
        self.module = module
        self.probe = FeatureExtractor((module.teacher or module.student).model, self.normalization, backbone.size)
        check_monitored(config.monitor, self.probe)
        return module

    def dataset(self) -> tuple[TwoViewDataset, Callable[..., Any]]:
        data, mask, local = self.config.data, self.config.masked_branch, self.config.local_branch
        views = TwoViewDataset(
            self.windows, self.config.backbone.size, self.module.student.grid, mask.mask_grid, mask.mask_ratio,
            data.crop_scale, data.d4, data.color_jitter, self.config.seed, data.noise_std,
            self.normalization.fill_values,
        )  # fmt: skip
        return views, partial(collate, num_matches=local.num_matches, max_match_distance=local.max_match_distance)

    def param_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        return make_groups(module, self.optim.weight_decay, ("mask_token", "pos_embed", "cls_token"))

    def callbacks(self, trainer: Trainer) -> list[TrainerCallback]:
        # Once: copying to a device waits for it.
        self._mean, self._std = (x.to(trainer.args.device) for x in mean_std_tensors(self.normalization))
        images = _whole_images(self.windows, self.config, self.normalization, _FIT_IMAGES)
        return [
            _UpdateTeacher(self.module, self.config.ema_momentum),
            FeatureMonitor(self.config.monitor, images, self.probe, cast(LHRSTrainer, trainer)),
        ]

    @torch.no_grad()
    def prepare(self, trainer: Trainer, inputs: dict[str, Any]) -> dict[str, Any]:
        """Augment and normalize on the device."""
        step, out = trainer.state.global_step, self.config.output_dir
        pixels = augment_and_normalize(
            inputs["views"], inputs["color_jitter"], self.normalization.max_value, self._mean, self._std
        )
        if step % self.config.figure_steps == 0 and is_main_process():
            file = out / "figures" / f"step-{step}.png"
            draw_step(self.module, pixels, inputs, self._mean.cpu(), self._std.cpu(), file)
        low, high = self.config.local_branch.teacher_temperature
        progress = min(1.0, step / max(1, trainer.state.max_steps) / _TEMPERATURE_WARMUP)
        targets = {name: inputs[name] for name in ("mask", "pairs", "close")}
        return {"pixels": pixels, **targets, "teacher_temperature": low + (high - low) * progress}

    def save(self, trainer: Trainer, state: Any) -> None:
        config, backbone, in_chans = self.config, self.config.backbone, self.windows.in_chans
        # A plain model: synchronized batch norms would wait for the other processes.
        arguments = {name: value for name, value in backbone.args.items() if name not in _INITIAL_WEIGHTS}
        model = create_backbone(backbone.name, in_chans, backbone.size, **arguments)
        load_strict(model, self.module.student.model.state_dict(), "the student")
        model.to(trainer.args.device)
        recompute_bn_stats(model, _whole_images(self.windows, config, self.normalization, _BN_IMAGES))
        if in_chans != 3:
            arguments["in_chans"] = in_chans
        if hasattr(model, "pos_embed") or hasattr(model, "patch_embed"):
            arguments["img_size"] = backbone.size
        mean, std = list(self.normalization.mean), list(self.normalization.std)
        saved = self.normalization.model_dump(mode="json")
        with atomic_dir(self.model_dir) as part:
            write_timm_folder(part, model.state_dict(), backbone.name, arguments, backbone.size, mean, std, saved)
        tensors = {n: value for n, value in self.module.state_dict().items() if not n.startswith(_STUDENT)}
        save_safetensors(config.output_dir / WEIGHTS, tensors)


class _UpdateTeacher(TrainerCallback):
    """Updates the teacher after the optimizer's step."""

    def __init__(self, module: CMID, momentum: float) -> None:
        self.module, self.momentum = module, momentum

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        update_teacher(self.module, ema_momentum(state.global_step, state.max_steps, self.momentum))


def load_pretraining(module: CMID, out: Path) -> None:
    """Load all weights of a finished run.

    Args:
        module: to be filled.
        out: the run's output folder.

    Raises:
        CheckpointError: a file is missing or broken, or the run has another backbone or other branches.
    """
    student = read_safetensors(out / MODEL / "model.safetensors")
    state = {**read_safetensors(out / WEIGHTS), **{f"{_STUDENT}{name}": value for name, value in student.items()}}
    load_strict(module, state, str(out))


def build_cmid(config: CMIDConfig, in_chans: int) -> CMID:
    """Return the module of a run.

    Raises:
        ConfigError: there is no such backbone.
        CheckpointError: `checkpoint_path` does not fit it.
    """
    masked, global_, local = config.masked_branch, config.global_branch, config.local_branch
    heads = [{"hidden": branch.hidden_dim, "out": branch.out_dim} for branch in (global_, local)]
    module = CMID(
        config.backbone.name,
        in_chans,
        config.backbone.size,
        {"frequency_weight": masked.frequency_weight} if masked.weight else None,
        {"queue_size": global_.queue_size, "temperature": global_.temperature, **heads[0]} if global_.weight else None,
        {"prototypes": local.prototypes, "batch_norm": local.batch_norm, **heads[1]} if local.weight else None,
        {"masked": masked.weight, "global": global_.weight, "local": local.weight},
        {name: value for name, value in config.backbone.args.items() if name != "checkpoint_path"},
    )
    if path := config.backbone.args.get("checkpoint_path"):
        load_backbone_checkpoint(module.student.model, Path(path))
        if module.teacher is not None:
            load_strict(module.teacher.model, module.student.model.state_dict(), "the student")
    return module


def fit_normalization(config: CMIDConfig, windows: UnlabeledWindows) -> Normalization:
    """Return the normalization of a run; unspecified values are fitted to evenly spread windows.

    Raises:
        ConfigError: the run specifies another number of bands.
        DataError: most values lie outside of the range that augmentation keeps.
    """
    data = config.data
    overrides = {name: value for name, value in (("mean", data.mean), ("std", data.std)) if value is not None}
    for name, value in overrides.items():
        if len(value) != windows.in_chans:
            raise ConfigError(f"data.{name} has {len(value)} values, the images have {windows.in_chans} bands.")
    if data.mean is not None and data.std is not None and data.max_value is not None:
        return Normalization(
            bands=None if data.bands is None else tuple(data.bands), max_value=data.max_value, mean=tuple(data.mean),
            std=tuple(data.std), dtype=dtype_kind(windows.dtype),
        )  # fmt: skip
    samples = ((windows[0, int(n)], None, str(windows.places[int(n)].file)) for n in _spread(windows, _FIT_IMAGES))
    fitted = Normalization.fit(samples, data.bands, data.max_value, clip=True)
    return fitted.model_copy(update={name: tuple(value) for name, value in overrides.items()})


def _spread(windows: UnlabeledWindows, count: int) -> np.ndarray:
    return np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)


def _whole_images(
    windows: UnlabeledWindows, config: CMIDConfig, normalization: Normalization, count: int
) -> Iterator[Tensor]:
    """Yield batches of normalized windows, not augmented."""
    chosen, batch_size = _spread(windows, count), 64
    mean, std = mean_std_tensors(normalization)
    size, fill = config.backbone.size, normalization.fill_values
    for start in range(0, len(chosen), batch_size):
        images = [resize_full_window(windows[0, int(n)], size, fill) for n in chosen[start : start + batch_size]]
        yield augment_and_normalize(torch.stack(images), None, normalization.max_value, mean, std)

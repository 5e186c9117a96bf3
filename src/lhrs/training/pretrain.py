"""`lhrs pretrain`: CMID through the one training engine."""

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from accelerate import PartialState
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.cmid.backbone import create_backbone, recompute
from lhrs.cmid.model import CMID, ema_momentum, set_clean_statistics
from lhrs.cmid.pictures import draw_step
from lhrs.cmid.probes import Probe
from lhrs.cmid.views import Views, collate, finish, mean_std_tensors, whole
from lhrs.data.windows import Windows
from lhrs.errors import ConfigError
from lhrs.files import write_tensors
from lhrs.imagery.normalization import Normalization, dtype_kind
from lhrs.models.timm_folder import write_timm_folder
from lhrs.training.engine import KeyedTrainer, fit, training_arguments
from lhrs.training.output import Record, is_main_process, is_to_do, mark_finished, open_run, put_in
from lhrs.training.pretrain_run import PretrainRun
from lhrs.training.schedule import make_groups, make_optimizer_of, make_schedule_of
from lhrs.training.trainable import print_trainable
from lhrs.training.watch import Watch, check_watched

BACKBONE = "backbone"
"""Folder of the result inside the run."""
WEIGHTS = "cmid.safetensors"
"""Student, teacher, heads and queue, beside it."""
_FIRST_WEIGHTS = ("pretrained", "checkpoint_path")
"""Arguments of `timm.create_model` that say where to begin, and nothing of what comes out."""
_CLEAN_IMAGES = 2048
_MEASURED = 256
_WARM_TEMPERATURE = 0.25


class PretrainTrainer(KeyedTrainer):
    """Finishes views on the device, moves the teacher, and logs each branch without waiting for the device."""

    def __init__(self, run: PretrainRun, module: CMID, normalization: Normalization, **kwargs: Any) -> None:
        super().__init__(model=module, **kwargs)
        self._run, self._module, self._max_value = run, module, normalization.max_value
        # Once: copying to a device waits for it.
        self._mean, self._std = (x.to(self.args.device) for x in mean_std_tensors(normalization))
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self.model_accepts_loss_kwargs = False
        self.add_callback(_MoveTeacher(module, run.momentum))

    def finished(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the batch's normalised views."""
        return finish(inputs["views"], inputs["colours"], self._max_value, self._mean, self._std)

    def compute_loss(
        self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        with torch.no_grad():
            pixels = self.finished(inputs)
        low, high = self._run.local_branch.teacher_temperature
        share = self.state.global_step / max(1, self.state.max_steps) / _WARM_TEMPERATURE
        out = model(pixels, inputs["mask"], inputs["pairs"], inputs["close"], low + (high - low) * min(1.0, share))
        for name, value in out.items():
            if name != "loss":
                self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value
        self._batches += 1
        if self.state.global_step % self._run.pictures_every == 0 and is_main_process():
            draw_step(self._module, pixels, inputs, self._mean.cpu(), self._std.cpu(),
                      self._run.out / "pictures" / f"step-{self.state.global_step}.png")  # fmt: skip
        return (out["loss"], out) if return_outputs else out["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self._batches:
            logs.update({f"loss_{name}": float(total) / self._batches for name, total in self._sums.items()})
            self._sums, self._batches = {}, 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        settings = self._run.fit
        betas = (0.98, 0.92, 0.99) if settings.optimizer == "adan" else (0.9, 0.95)
        groups = make_groups(self._module, settings.weight_decay, ("mask_token", "pos_embed", "cls_token"))
        self.optimizer = make_optimizer_of(groups, settings.optimizer, settings.peak_lr, betas, 1e-8)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        settings = self._run.fit
        target = optimizer or cast(torch.optim.Optimizer, self.optimizer)
        warm = round(settings.warmup * num_training_steps)
        self.lr_scheduler = make_schedule_of(target, settings.min_lr, warm, 0.01, num_training_steps)
        self._created_lr_scheduler = True
        return self.lr_scheduler


class _MoveTeacher(TrainerCallback):
    """After the optimizer's step, so that the teacher follows what the student is now."""

    def __init__(self, module: CMID, momentum: float) -> None:
        self.module, self.momentum = module, momentum

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.module.follow(ema_momentum(state.global_step, state.max_steps, self.momentum))


def pretrain(run: PretrainRun) -> None:
    """Train; the result is `backbone/` (the student, for timm and for `encoder:` of a run file) and `cmid.safetensors`.

    Raises:
        ConfigError: the run contradicts itself or what its folder holds, or there is no such backbone.
        CheckpointError: `start` is of another backbone or has other branches.
        DataError: an image is missing or cannot be read.
    """
    if not is_to_do(run):
        return
    windows = Windows(run.data.paths, run.data.window, run.data.bands, run.seed)
    normalization = fit_normalization(run, windows)
    torch.manual_seed(run.seed)
    module = build(run, windows.in_chans)
    if run.start is not None:
        put_in(module, run.start / WEIGHTS)
    recompute(module.student.model, run.backbone.recompute)
    if run.sync_batch_norm:
        if run.cpu or not torch.cuda.is_available():
            raise ConfigError("sync_batch_norm needs GPUs: torch shares batch-norm statistics only there.")
        module = cast(CMID, convert_sync_batchnorm(module))  # timm's: torch's forgets the activations in timm's norms
    seen = Probe((module.teacher or module.student).model, normalization, run.backbone.size)
    check_watched(run.watch, seen)
    record = Record(kind=run.kind)
    open_run(run, record)
    print_trainable(module, lambda name: name.split(".")[0].rstrip("_"))
    grid = module.student.grid
    data, mask = run.data, run.masked_branch
    views = Views(
        windows, run.backbone.size, grid, mask.grid, mask.ratio, data.crop, data.symmetries, data.colour, run.seed,
        data.noise,
    )  # fmt: skip
    settings = run.fit
    length = {"num_train_epochs": settings.epochs} if settings.epochs is not None else {"max_steps": settings.steps}
    arguments = training_arguments(
        run, settings.batch_size, None, learning_rate=settings.peak_lr, max_grad_norm=settings.max_grad_norm,
        **length,
    )  # fmt: skip
    join = partial(collate, num_matches=run.local_branch.matches, farthest=run.local_branch.farthest)
    trainer = PretrainTrainer(run, module, normalization, args=arguments, train_dataset=views, data_collator=join)
    trainer.add_callback(Watch(run.watch, _clean(windows, run, normalization, _MEASURED), seen, trainer))
    fit(trainer)
    if is_main_process():
        # A plain one, as this process is alone here: norms that wait for other processes would wait for ever.
        shape = {name: value for name, value in run.backbone.args.items() if name not in _FIRST_WEIGHTS}
        model = create_backbone(run.backbone.name, windows.in_chans, run.backbone.size, **shape)
        model.load_state_dict(module.student.model.state_dict())
        model.to(trainer.args.device)
        set_clean_statistics(model, _clean(windows, run, normalization, _CLEAN_IMAGES))
        arguments_ = {**shape, **({"in_chans": windows.in_chans} if windows.in_chans != 3 else {})}
        if hasattr(model, "pos_embed") or hasattr(model, "patch_embed"):
            arguments_["img_size"] = run.backbone.size
        write_timm_folder(
            run.out / BACKBONE, model.state_dict(), run.backbone.name, arguments_, run.backbone.size,
            list(normalization.mean), list(normalization.std), normalization.model_dump(mode="json"),
        )  # fmt: skip
        write_tensors(run.out / WEIGHTS, module.state_dict())
        mark_finished(run.out, record)
    PartialState().wait_for_everyone()  # the others must not leave while the first one writes


def build(run: PretrainRun, in_chans: int) -> CMID:
    """Return the module of a run.

    Raises:
        ConfigError: there is no such backbone.
    """
    masked = {"frequency_weight": run.masked_branch.frequency_weight} if run.masked_branch.weight else None
    global_ = run.global_branch.model_dump(exclude={"weight"}) if run.global_branch.weight else None
    local = (
        run.local_branch.model_dump(include={"prototypes", "hidden", "out", "batch_norm"})
        if run.local_branch.weight
        else None
    )
    weights = {"masked": run.masked_branch.weight, "global": run.global_branch.weight, "local": run.local_branch.weight}
    return CMID(run.backbone.name, in_chans, run.backbone.size, masked, global_, local, weights, run.backbone.args)


def fit_normalization(run: PretrainRun, windows: Windows) -> Normalization:
    """Return the normalization of a run; what it does not name is fitted to windows spread evenly.

    Raises:
        ConfigError: the run names another number of bands.
        DataError: most values lie outside of the range that augmentation keeps.
    """
    data = run.data
    given = {name: value for name, value in (("mean", data.mean), ("std", data.std)) if value is not None}
    for name, value in given.items():
        if len(value) != windows.in_chans:
            raise ConfigError(f"data.{name} has {len(value)} values, the images have {windows.in_chans} bands.")
    if data.mean is not None and data.std is not None and data.scale is not None:
        return Normalization(
            bands=None if data.bands is None else tuple(data.bands), max_value=data.scale, mean=tuple(data.mean),
            std=tuple(data.std), dtype=dtype_kind(windows.dtype),
        )  # fmt: skip
    samples = ((windows[0, int(n)], None, str(windows.places[int(n)].file)) for n in _spread(windows, _MEASURED))
    fitted = Normalization.fit(samples, data.bands, data.scale, clip=True)
    return fitted.model_copy(update={name: tuple(value) for name, value in given.items()})


def _spread(windows: Windows, most: int) -> np.ndarray:
    return np.linspace(0, len(windows) - 1, min(most, len(windows))).round().astype(int)


def _clean(windows: Windows, run: PretrainRun, normalization: Normalization, most: int) -> Iterator[Tensor]:
    at = _spread(windows, most)
    size = 64
    mean, std = mean_std_tensors(normalization)
    for start in range(0, len(at), size):
        batch = torch.stack([whole(windows[0, int(n)], run.backbone.size) for n in at[start : start + size]])
        yield finish(batch, None, normalization.max_value, mean, std)

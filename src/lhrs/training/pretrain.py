"""`lhrs pretrain`: CMID through the one training engine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from lhrs.cmid.views import Views, collate, finish, whole
from lhrs.data.windows import Windows
from lhrs.errors import ConfigError
from lhrs.files import write_tensors
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


@dataclass(frozen=True)
class Numbers:
    """How a file's numbers become what the network sees."""

    scale: float
    mean: Tensor
    std: Tensor


class PretrainTrainer(KeyedTrainer):
    """Finishes views on the device, moves the teacher, and logs each branch without waiting for the device."""

    def __init__(self, run: PretrainRun, module: CMID, numbers: Numbers, **kwargs: Any) -> None:
        super().__init__(model=module, **kwargs)
        self._run, self._module, self._numbers = run, module, numbers
        # Once: copying to a device waits for it.
        self._mean, self._std = (x.to(self.args.device) for x in (numbers.mean, numbers.std))
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self.model_accepts_loss_kwargs = False
        self.add_callback(_MoveTeacher(module, run.momentum))

    def finished(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the batch's normalised views."""
        return finish(inputs["views"], inputs["colours"], self._numbers.scale, self._mean, self._std)

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
            draw_step(self._module, pixels, inputs, self._numbers.mean, self._numbers.std,
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
    numbers = measure(run, windows)
    torch.manual_seed(run.seed)
    module = build(run, windows.in_chans)
    if run.start is not None:
        put_in(module, run.start / WEIGHTS)
    recompute(module.student.model, run.backbone.recompute)
    if run.sync_batch_norm:
        if run.cpu or not torch.cuda.is_available():
            raise ConfigError("sync_batch_norm needs GPUs: torch shares batch-norm statistics only there.")
        module = cast(CMID, convert_sync_batchnorm(module))  # timm's: torch's forgets the activations in timm's norms
    mean, std = numbers.mean.tolist(), numbers.std.tolist()
    usual = windows.in_chans == 3 and numbers.scale == 255 and run.data.bands is None
    told = None if usual else {"scale": numbers.scale, "bands": run.data.bands}
    seen = Probe((module.teacher or module.student).model, numbers.mean, numbers.std, run.backbone.size)
    if not usual:
        seen = replace(seen, scale=numbers.scale, bands=None if run.data.bands is None else tuple(run.data.bands))
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
    trainer = PretrainTrainer(run, module, numbers, args=arguments, train_dataset=views, data_collator=join)
    trainer.add_callback(Watch(run.watch, _clean(windows, run, numbers, _MEASURED), seen, trainer))
    fit(trainer)
    if is_main_process():
        # A plain one, as this process is alone here: norms that wait for other processes would wait for ever.
        shape = {name: value for name, value in run.backbone.args.items() if name not in _FIRST_WEIGHTS}
        model = create_backbone(run.backbone.name, windows.in_chans, run.backbone.size, **shape)
        model.load_state_dict(module.student.model.state_dict())
        model.to(trainer.args.device)
        set_clean_statistics(model, _clean(windows, run, numbers, _CLEAN_IMAGES))
        arguments_ = {**shape, **({"in_chans": windows.in_chans} if windows.in_chans != 3 else {})}
        if hasattr(model, "pos_embed") or hasattr(model, "patch_embed"):
            arguments_["img_size"] = run.backbone.size
        write_timm_folder(
            run.out / BACKBONE, model.state_dict(), run.backbone.name, arguments_, run.backbone.size, mean, std, told
        )
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


def measure(run: PretrainRun, windows: Windows) -> Numbers:
    """Return the run's numbers; mean and deviation that it does not name are measured on windows spread evenly.

    Raises:
        ConfigError: the run names another number of bands.
    """
    data = run.data
    scale = data.scale or (255.0 if windows.dtype == np.uint8 else 10_000.0)
    given = {"mean": data.mean, "std": data.std}
    for name, value in given.items():
        if value is not None and len(value) != windows.in_chans:
            raise ConfigError(f"data.{name} has {len(value)} numbers, the images have {windows.in_chans} bands.")
    if data.mean is None or data.std is None:
        found = [np.nan_to_num(windows[0, int(n)].astype(np.float64)) / scale for n in _spread(windows, _MEASURED)]
        flat = [x.clip(0, 1).reshape(len(x), -1) for x in found]
        mean = np.mean([x.mean(1) for x in flat], 0)
        std = np.sqrt(np.mean([((x - mean[:, None]) ** 2).mean(1) for x in flat], 0))
        given = {"mean": data.mean or mean.tolist(), "std": data.std or std.clip(min=1e-3).tolist()}
    return Numbers(scale, *(torch.tensor(given[name], dtype=torch.float32) for name in ("mean", "std")))


def _spread(windows: Windows, most: int) -> np.ndarray:
    return np.linspace(0, len(windows) - 1, min(most, len(windows))).round().astype(int)


def _clean(windows: Windows, run: PretrainRun, numbers: Numbers, most: int) -> Iterator[Tensor]:
    at = _spread(windows, most)
    size = 64
    for start in range(0, len(at), size):
        batch = torch.stack([whole(windows[0, int(n)], run.backbone.size) for n in at[start : start + size]])
        yield finish(batch, None, numbers.scale, numbers.mean, numbers.std)

"""Training of the embedded model, from encoder to package."""

from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from transformers import PreTrainedTokenizerFast

from lhrs.errors import CheckpointError
from lhrs.files import new_folder, write_tensors
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.nano.config import QuestionsRun, Sources, VisionRun
from lhrs.nano.model import ENCODER, IMAGE_SIZE, LEVELS, build_nano, train_tokenizer
from lhrs.nano.package import QuestionLoss, package, tokenizer_texts
from lhrs.nano.rows import Phase, QuestionRows, collate_rows
from lhrs.nano.sources import Source, VisionDataset, load_sources
from lhrs.nano.templates import load_banks
from lhrs.nano.vision import VisionPretraining
from lhrs.training.engine import KeyedTrainer, fit, training_arguments
from lhrs.training.output import (
    Record,
    finished_record,
    is_main_process,
    is_to_do,
    load_tensors,
    mark_finished,
    open_run,
)
from lhrs.training.trainable import print_trainable

WEIGHTS = "final.safetensors"
_PARTS = ("class", "map", "cover", "heat", "size")


class _VisionTrainer(KeyedTrainer):
    """Logs every part of the loss and the accuracy of scene classes beside the loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sums: dict[str, float] = {}
        self._batches = 0

    def compute_loss(
        self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        out = model(**inputs)
        for name in (*_PARTS, "hits", "seen"):
            self._sums[name] = self._sums.get(name, 0.0) + float(out[name])
        self._batches += 1
        return (out["loss"], out) if return_outputs else out["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self._batches:
            logs.update({f"loss_{name}": self._sums[name] / self._batches for name in _PARTS})
            logs["accuracy"] = self._sums["hits"] / max(1.0, self._sums["seen"])
            self._sums, self._batches = {}, 0
        super().log(logs, *args, **kwargs)


class _QuestionTrainer(KeyedTrainer):
    """AdamW with decay on matrices only, and a slower group for the encoder."""

    def __init__(self, run: QuestionsRun, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._run = run

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        named = [(n, p) for n, p in cast(nn.Module, self.model).named_parameters() if p.requires_grad]
        vision = [p for n, p in named if "vision_tower" in n]
        rest = [p for n, p in named if "vision_tower" not in n]
        settings = self._run.fit
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        if vision:
            lr = settings.lr * settings.vision_lr_rate
            groups.append({"params": vision, "lr": lr, "weight_decay": settings.weight_decay})
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2))
        return self.optimizer


def train_vision(run: VisionRun) -> None:
    """Train the encoder with its throw-away heads; the result is `final.safetensors`.

    Raises:
        ConfigError: the run's folder holds another run, or `start` is not finished.
        DataError: a source is missing.
        CheckpointError: `start` has other heads.
    """
    record = Record(kind=run.kind)
    start = None if run.start is None else _weights(run.start, "vision")
    if not is_to_do(run):
        return
    sources = _sources(run.data)
    dataset = VisionDataset(sources, run.canvas, run.seed)
    torch.manual_seed(run.seed)
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in _encoder_arguments().items()}
    encoder = timm.create_model(
        cast(str, ENCODER["architecture"]), features_only=True, out_indices=tuple(LEVELS), **sizes
    )
    module = VisionPretraining(encoder, sources, dataset.num_covers, run.label_smoothing, run.cutmix)
    if start is not None:
        _load(module, start, cast(Path, run.start))
    open_run(run, record)
    print_trainable(module, lambda name: "encoder" if name.startswith("encoder.") else "heads")
    settings = run.fit
    arguments = training_arguments(
        run,
        settings.batch_size,
        None,
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        lr_scheduler_type="cosine",
        max_grad_norm=settings.max_grad_norm,
        adam_beta2=settings.beta2,
    )
    fit(_VisionTrainer(model=module, args=arguments, train_dataset=dataset, data_collator=default_collate))
    if is_main_process():
        write_tensors(run.out / WEIGHTS, module.state_dict())
        mark_finished(run.out, record)


def train_questions(run: QuestionsRun) -> None:
    """Train the embedded model to answer; the results are `final.safetensors` and the package `model/`.

    Raises:
        ConfigError: the run's folder holds another run, or the run to begin with is not finished.
        DataError: a source is missing.
        CheckpointError: the run to begin with has other shapes.
    """
    record = Record(kind=run.kind)
    vision = None if run.vision is None else _weights(run.vision, "vision")
    start = None if run.start is None else _weights(run.start, "questions")
    if not is_to_do(run):
        return
    sources = _sources(run.data)
    torch.manual_seed(run.seed)
    tokenizer = _tokenizer(run)
    model, processor = build_nano(tokenizer)
    if start is not None:
        _load(model, start, cast(Path, run.start), absent={"lm_head.weight"})  # tied to the embedding
    if vision is not None:
        _load_encoder(model, vision, cast(Path, run.vision))
    phases = [Phase(**phase.model_dump()) for phase in run.phases]
    tokens = processor.num_image_tokens
    dataset = QuestionRows(
        sources, tokenizer, tokens, phases, IMAGE_SIZE, run.text_tokens, run.rows_per_epoch, run.seed
    )
    module = QuestionLoss(model, run.train_vision)
    open_run(run, record)
    print_trainable(module)
    settings = run.fit
    arguments = training_arguments(
        run,
        settings.batch_size,
        None,
        num_train_epochs=settings.epochs,
        learning_rate=settings.lr,
        warmup_steps=settings.warmup_steps,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": settings.min_lr_rate},
        max_grad_norm=settings.max_grad_norm,
    )
    collator = partial(collate_rows, pad_id=cast(int, tokenizer.pad_token_id))
    fit(_QuestionTrainer(run, model=module, args=arguments, train_dataset=dataset, data_collator=collator))
    if is_main_process():
        state = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
        write_tensors(run.out / WEIGHTS, state)
        with new_folder(run.out / "model") as folder:
            package(model, processor, sources, folder, run.seed)
        mark_finished(run.out, record)


def _tokenizer(run: QuestionsRun) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the run to begin with: one trained anew would number its tokens otherwise."""
    if run.start is not None:
        return PreTrainedTokenizerFast.from_pretrained(run.start / "model", padding_side="left")
    return train_tokenizer(tokenizer_texts(load_banks()), run.vocab_size)


def _sources(settings: Sources) -> list[Source]:
    return load_sources([source.model_dump() for source in settings.sources], settings.root)


def _encoder_arguments() -> dict[str, Any]:
    return cast(dict[str, Any], ENCODER["model_args"])


def _weights(folder: Path, kind: str) -> dict[str, Tensor]:
    finished_record(folder, kind)
    return load_tensors(folder / WEIGHTS)


def _load(module: nn.Module, state: dict[str, Tensor], source: Path, absent: set[str] | None = None) -> None:
    try:
        found = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{source} does not fit this run: {' '.join(str(error).split())[:300]}") from error
    if wrong := [*(set(found.missing_keys) - (absent or set())), *found.unexpected_keys]:
        raise CheckpointError(f"{source} does not fit this run: {sorted(wrong)[0]} is only on one side.")


def _load_encoder(model: LHRSForConditionalGeneration, state: dict[str, Tensor], source: Path) -> None:
    """Take over the encoder of a vision run; its heads are left behind."""
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    _load(cast(Any, model.model.vision_tower).timm_model, encoder, source, absent={"fc.weight", "fc.bias"})

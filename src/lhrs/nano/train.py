"""Training of the embedded model, from encoder to package."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from transformers import (
    PreTrainedTokenizerFast,
    get_cosine_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
)
from transformers.trainer_pt_utils import get_parameter_names

from lhrs.atomic_io import atomic_dir, save_safetensors
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.state_dict import load_strict, read_safetensors
from lhrs.nano.config import QuestionsFit, QuestionsRun, Sources, VisionFit, VisionRun
from lhrs.nano.model import ENCODER, IMAGE_SIZE, LEVELS, build_nano, train_tokenizer
from lhrs.nano.package import QuestionLoss, package, tokenizer_texts
from lhrs.nano.rows import Phase, QuestionRows, collate_rows
from lhrs.nano.sources import Source, VisionDataset, load_sources
from lhrs.nano.templates import load_banks
from lhrs.nano.vision import VisionPretraining
from lhrs.training.freeze import module_of
from lhrs.training.recipe import Recipe
from lhrs.training.run_config import OptimConfig
from lhrs.training.run_dir import finished_record

WEIGHTS = "final.safetensors"
_NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""transformers' rule."""
_PARTS = ("class", "map", "cover", "heat", "size")


class VisionRecipe(Recipe[VisionRun]):
    """Trains the encoder with its throw-away heads; the result is `final.safetensors`."""

    def __init__(self, config: VisionRun) -> None:
        super().__init__(config)
        self.optim = _optim(config.optim)

    def open_data(self) -> dict[str, str]:
        self.start = None if self.config.init_from is None else _weights(self.config.init_from, "vision")
        self.sources = _sources(self.config.data)
        return {}

    def build(self) -> nn.Module:
        config = self.config
        self.rows = VisionDataset(self.sources, config.image_size, config.seed)
        sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in _encoder_arguments().items()}
        encoder = timm.create_model(
            cast(str, ENCODER["architecture"]), features_only=True, out_indices=tuple(LEVELS), **sizes
        )
        self.module = VisionPretraining(
            encoder, self.sources, self.rows.num_covers, config.label_smoothing, config.cutmix
        )
        if self.start is not None:
            load_strict(self.module, self.start, str(config.init_from))
        return self.module

    def dataset(self) -> tuple[Any, Callable[..., Any]]:
        return self.rows, default_collate

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        decays = set(get_parameter_names(module, [nn.LayerNorm], _NO_DECAY))
        settings = self.config.optim
        groups = [
            {"params": [p for n, p in module.named_parameters() if (n in decays) == decay], "weight_decay": value}
            for decay, value in ((True, settings.weight_decay), (False, 0.0))
        ]
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2))

    def schedule(self, optimizer: torch.optim.Optimizer, num_steps: int) -> Any:
        return get_cosine_schedule_with_warmup(optimizer, self.config.optim.warmup_steps, num_steps)

    def metrics(self, trainer: Any, means: dict[str, float]) -> dict[str, float]:
        if not means:
            return {}
        parts = {f"loss_{name}": means[name] for name in _PARTS}
        return {**parts, "accuracy": means["hits"] / max(1.0, means["seen"])}

    def save(self, trainer: Any, state: Any) -> None:
        save_safetensors(self.config.output_dir / WEIGHTS, self.module.state_dict())

    def module_of(self, name: str) -> str:
        return "encoder" if name.startswith("encoder.") else "heads"


class QuestionsRecipe(Recipe[QuestionsRun]):
    """Trains the embedded model to answer; the results are `final.safetensors` and the package `model/`."""

    def __init__(self, config: QuestionsRun) -> None:
        super().__init__(config)
        self.optim = _optim(config.optim)

    def open_data(self) -> dict[str, str]:
        config = self.config
        self.vision = None if config.init_vision_from is None else _weights(config.init_vision_from, "vision")
        self.start = None if config.init_from is None else _weights(config.init_from, "questions")
        self.sources = _sources(config.data)
        return {}

    def build(self) -> nn.Module:
        config = self.config
        self.tokenizer = _tokenizer(config)
        self.model, self.processor = build_nano(self.tokenizer)
        if self.start is not None:  # the output layer is tied to the embedding
            load_strict(self.model, self.start, str(config.init_from), ["lm_head.weight"])
        if self.vision is not None:
            _load_encoder(self.model, self.vision, str(config.init_vision_from))
        return QuestionLoss(self.model, config.train_vision)

    def dataset(self) -> tuple[Any, Callable[..., Any]]:
        config, tokens = self.config, self.processor.num_image_tokens
        phases = [Phase(**phase.model_dump()) for phase in config.phases]
        rows = QuestionRows(
            self.sources, self.tokenizer, tokens, phases, IMAGE_SIZE, config.max_text_tokens,
            config.samples_per_epoch, config.seed,
        )  # fmt: skip
        return rows, partial(collate_rows, pad_id=cast(int, self.tokenizer.pad_token_id))

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """AdamW with decay on matrices only, and a slower group for the encoder."""
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        vision = [p for n, p in named if "vision_tower" in n]
        rest = [p for n, p in named if "vision_tower" not in n]
        settings = self.config.optim
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        if vision:
            lr = settings.lr * settings.vision_lr_scale
            groups.append({"params": vision, "lr": lr, "weight_decay": settings.weight_decay})
        return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, settings.beta2))

    def schedule(self, optimizer: torch.optim.Optimizer, num_steps: int) -> Any:
        settings = self.config.optim
        return get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, settings.warmup_steps, num_steps, min_lr_rate=settings.min_lr_ratio
        )

    def metrics(self, trainer: Any, means: dict[str, float]) -> dict[str, float]:
        return {}

    def save(self, trainer: Any, state: Any) -> None:
        tensors = {k: v for k, v in self.model.state_dict().items() if k != "lm_head.weight"}
        save_safetensors(self.config.output_dir / WEIGHTS, tensors)
        with atomic_dir(self.model_dir) as folder:
            package(self.model, self.processor, self.sources, folder, self.config.seed)

    def module_of(self, name: str) -> str:
        return module_of(name)


def _optim(settings: VisionFit | QuestionsFit) -> OptimConfig:
    """Return what the trainer reads; optimizer and schedule are the recipe's own."""
    return OptimConfig(
        lr=settings.lr, batch_size=settings.batch_size, epochs=settings.epochs, max_grad_norm=settings.max_grad_norm
    )


def _tokenizer(run: QuestionsRun) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the run to begin with: one trained anew would number its tokens otherwise."""
    if run.init_from is not None:
        return PreTrainedTokenizerFast.from_pretrained(run.init_from / "model", padding_side="left")
    return train_tokenizer(tokenizer_texts(load_banks()), run.vocab_size)


def _sources(settings: Sources) -> list[Source]:
    return load_sources([source.model_dump() for source in settings.sources], settings.root)


def _encoder_arguments() -> dict[str, Any]:
    return cast(dict[str, Any], ENCODER["model_args"])


def _weights(folder: Path, kind: str) -> dict[str, Tensor]:
    finished_record(folder, kind)
    return read_safetensors(folder / WEIGHTS)


def _load_encoder(model: LHRSForConditionalGeneration, state: dict[str, Tensor], source: str) -> None:
    """Take over the encoder of a vision run; its heads are left behind."""
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    load_strict(cast(Any, model.model.vision_tower).timm_model, encoder, source, ["fc.weight", "fc.bias"])

"""Text generation from a prompt, with or without an image, for building data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.errors import CheckpointError, ConfigError, MissingExtraError
from lhrs.inference.load import load
from lhrs.inference.runtime import Request

Prompt = tuple[np.ndarray | None, str]
"""uint8 `(H, W, 3)` or None, and what is asked."""
TextGenerator = Callable[[Sequence[Prompt]], list[str]]
_BATCH = 8


def load_text_generator(model: str, device: str | None = None, max_new_tokens: int = 256) -> TextGenerator:
    """Load a text generator. It decodes greedily and in order; texts do not depend on the batch.

    Args:
        model: as `lhrs.load` takes it; or a folder or hub id of a language model of transformers without vision.
        device: as `lhrs.load` takes it.
        max_new_tokens: of a text.

    Raises:
        ConfigError: there is no such model, or it has no vision encoder and an image is given.
        CheckpointError: it does not load.
    """
    if not model.startswith(("http://", "https://")) and _is_text_only(model):
        return _TextModel(model, device, max_new_tokens)
    runtime = load(model, device).runtime

    def write(prompts: Sequence[Prompt]) -> list[str]:
        requests = [
            Request(() if pixels is None else (pixels,), text, max_new_tokens=max_new_tokens)
            for pixels, text in prompts
        ]
        return [reply.text.strip() for reply in runtime.generate(requests)]

    return write


def _is_text_only(model: str) -> bool:
    """Return whether a configuration is of a language model without vision."""
    if Path(model).is_dir() and not (Path(model) / "config.json").exists():
        return False
    if not Path(model).is_dir() and model.count("/") != 1:
        return False
    try:
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        )
    except ImportError:
        return False
    try:
        kind = AutoConfig.from_pretrained(model).model_type
    except (OSError, ValueError, KeyError):
        return False
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


class _TextModel:
    """A causal language model of transformers, asked through its chat template where it has one."""

    def __init__(self, model: str, device: str | None, max_new_tokens: int) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError(f"model {model!r} needs torch: pip install 'lhrs[torch]'") from error
        from lhrs.inference.runtimes.torch import pick_device

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, padding_side="left")
            loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype="auto")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"{model} does not load: {' '.join(str(error).split())[:300]}") from error
        self._model = loaded.to(pick_device(device)).eval()
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._name, self._max_new_tokens, self._inference = model, max_new_tokens, torch.inference_mode

    def __call__(self, prompts: Sequence[Prompt]) -> list[str]:
        if any(pixels is not None for pixels, _ in prompts):
            raise ConfigError(f"{self._name} is a language model and cannot read images.")
        generated: list[str] = []
        for start in range(0, len(prompts), _BATCH):
            texts = [self._text(text) for _, text in prompts[start : start + _BATCH]]
            inputs = self._tokenizer(
                texts, padding=True, return_tensors="pt", add_special_tokens=not self._has_template
            )
            inputs = inputs.to(self._model.device)
            with self._inference():
                tokens = self._model.generate(**inputs, max_new_tokens=self._max_new_tokens, do_sample=False)
            new = tokens[:, inputs["input_ids"].shape[1] :]
            generated += [text.strip() for text in self._tokenizer.batch_decode(new, skip_special_tokens=True)]
        return generated

    @property
    def _has_template(self) -> bool:
        return self._tokenizer.chat_template is not None

    def _text(self, prompt: str) -> str:
        if not self._has_template:
            return prompt
        chat = [{"role": "user", "content": prompt}]
        return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

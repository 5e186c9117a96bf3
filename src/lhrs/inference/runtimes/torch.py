"""Any LHRS model through torch and transformers: bigger models, GPUs, conversations."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from lhrs.errors import CheckpointError, ConfigError
from lhrs.inference.chat import IMAGE_TOKEN, conversation, special_pattern
from lhrs.inference.engine import Engine, Images, Prompt, TokenChoice, positions
from lhrs.inference.model_family import get_family
from lhrs.inference.ood import OODDetector
from lhrs.inference.options import ModelOptions
from lhrs.inference.runtime import Generation, Request
from lhrs.inference.runtimes.kv_cache import growing_cache, select
from lhrs.inference.runtimes.tokenizer import TokenizerVocabulary
from lhrs.models.load import ADAPTER, first_words, load_model, merge_adapter
from lhrs.models.presets import quantization

_REQUESTS_PER_BATCH = 16
_IMAGES_PER_BATCH = 16


class TorchRuntime(TokenizerVocabulary):
    """Run an LHRS model folder or hub id.

    Args:
        model: folder or hub id for `from_pretrained`.
        device: torch device; None takes the GPU where there is one.
        options: of loading; other options are not read here.

    Raises:
        ConfigError: there is no such device.
        CheckpointError: the model does not load, or cannot hold a conversation.
        MissingExtraError: quantized weights need a package that is not installed.
    """

    def __init__(
        self,
        model: str,
        device: str | None = None,
        options: ModelOptions = ModelOptions(),  # noqa: B008 (frozen)
    ) -> None:
        where = pick_device(device)
        try:
            loaded, self._processor = load_model(model, dtype_of(options), options.quantize, options.revision)
            if (adapter := Path(model) / ADAPTER).is_dir():
                loaded = merge_adapter(loaded, adapter)
            self._model = (loaded if options.quantize else cast(Any, loaded).to(where)).eval()
        except RuntimeError as error:  # such as a device without enough memory
            raise CheckpointError(f"{model} does not load as an LHRS model: {first_words(error)}") from error
        self.name = Path(model).resolve().name if Path(model).is_dir() else model
        self.family = get_family(getattr(self._model.config, "model_family", None) or "lhrs_bot")
        if self._model.config.system_prompt is not None:
            self.family.system_prompt = self._model.config.system_prompt
        self._tokenizer = self._processor.tokenizer
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        stop = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        if stop is None or self._processor.chat_template is None:
            raise CheckpointError(f"{model} has no {'end token' if stop is None else 'chat template'}.")
        self.eos_token_ids = tuple(stop) if isinstance(stop, list) else (stop,)
        self._num_tokens = self._model.config.text_config.vocab_size
        self.pad_token_id: int = self._tokenizer.pad_token_id
        self.max_length: int = self._model.config.text_config.max_position_embeddings
        added = self._tokenizer.added_tokens_decoder.values()
        self._special = special_pattern(token.content for token in added if token.special)
        self._engine = Engine(self, _REQUESTS_PER_BATCH)
        ood = Path(model) / "ood.npz"
        self._ood = OODDetector.load(ood) if self.heads is None and ood.exists() else None

    @property
    def heads(self) -> "TorchRuntime | None":
        """The dense heads, from which answers come, see `lhrs.inference.perception`; None if the model has none."""
        return None if self._model.config.heads_config is None else self

    @torch.inference_mode()
    def perceive(self, pixel_values: np.ndarray, gsd_m: np.ndarray) -> dict[str, np.ndarray]:
        """See `lhrs.inference.perception.Heads`."""
        inputs = [torch.from_numpy(x).to(self._model.device, self._model.dtype) for x in (pixel_values, gsd_m)]
        out = self._model.model.perceive(*inputs)
        return {field.name: getattr(out, field.name).float().cpu().numpy() for field in fields(out)}

    def ood_score(self, pixels: np.ndarray) -> float | None:
        """See `Runtime.ood_score`."""
        if self._ood is None:
            return None
        return self._ood.ood_score(self._encode([pixels])[1][0])

    @property
    def ood_threshold(self) -> float | None:
        """See `Runtime.ood_threshold`."""
        return None if self._ood is None else self._ood.threshold

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`."""
        return self._engine.generate(requests, on_text)

    def prompt(self, request: Request) -> Prompt:
        """See `Backend.prompt`."""
        chat = conversation(request, self.family, self._special)
        text = self._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = self.encode(text.replace(IMAGE_TOKEN, IMAGE_TOKEN * self._processor.num_image_tokens))
        image = self._processor.image_token_id
        last = max((n for n, token in enumerate(ids) if token == image), default=0)
        return Prompt(tuple(ids[: last + 1]), tuple(ids[last + 1 :]))

    def encode_images(self, images: Sequence[np.ndarray]) -> Images:
        """See `Backend.encode_images`."""
        tokens, pooled = self._encode(images)
        return Images(tokens, [self._ood is not None and self._ood.is_ood(features) for features in pooled])

    @torch.inference_mode()
    def _encode(self, images: Sequence[np.ndarray]) -> tuple[list[torch.Tensor], list[np.ndarray]]:
        """Return the visual tokens and the pooled features `(C,)` of each image."""
        tokens: list[torch.Tensor] = []
        pooled: list[np.ndarray] = []
        for start in range(0, len(images), _IMAGES_PER_BATCH):
            part = [Image.fromarray(pixels) for pixels in images[start : start + _IMAGES_PER_BATCH]]
            pixel_values = self._processor.image_processor(images=part, return_tensors="pt")["pixel_values"]
            features = self._model.get_image_features(pixel_values.to(self._model.device, self._model.dtype))
            tokens += list(features.pooler_output)
            pooled += list(features.last_hidden_state.mean(1).float().cpu().numpy())
        return tokens, pooled

    @torch.inference_mode()
    def start(self, ids: np.ndarray, mask: np.ndarray, images: Sequence[torch.Tensor]) -> DynamicCache:
        """See `Backend.start`."""
        cache = growing_cache(self._model.config.text_config)
        self._read(ids, mask, cache, images)
        return cache

    @torch.inference_mode()
    def step(
        self, ids: np.ndarray, mask: np.ndarray, cache: DynamicCache, choose: Callable[[], Sequence[TokenChoice]]
    ) -> tuple[list[int], list[float], DynamicCache]:
        """See `Backend.step`."""
        hidden = self._read(ids, mask, cache, ())
        choices = choose()  # on a GPU the language model is still running
        logits = self._model.lm_head(hidden[:, -1]).float()
        scores = logits
        if any(choice.allowed is not None for choice in choices):
            banned = torch.zeros(logits.shape, dtype=torch.bool)
            for row, choice in enumerate(choices):
                if choice.allowed is not None:
                    banned[row] = True
                    banned[row, torch.from_numpy(choice.allowed)] = False
            scores = logits.masked_fill(banned.to(logits.device), -torch.inf)
        probabilities = scores.softmax(-1)
        sampled = [n for n, choice in enumerate(choices) if choice.noise is not None]
        if sampled:
            noise = np.stack([cast(Any, choices[n].noise)(logits.shape[1]) for n in sampled])
            scores = scores.clone()
            scores[sampled] += torch.from_numpy(noise).to(scores)
        best = scores.argmax(-1, keepdim=True)
        return best[:, 0].tolist(), probabilities.gather(1, best)[:, 0].tolist(), cache

    def select_rows(self, cache: DynamicCache, rows: np.ndarray) -> DynamicCache:
        """See `Backend.select_rows`."""
        return select(cache, torch.from_numpy(rows).to(self._model.device))

    def _read(
        self, ids: np.ndarray, mask: np.ndarray, cache: DynamicCache, images: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Append `(rows, T)` tokens to the cache and return the hidden states of the language model."""
        on = self._model.device
        input_ids = torch.from_numpy(ids).to(on)
        embeds = self._model.get_input_embeddings()(input_ids)
        if len(images):
            at = (input_ids == self._processor.image_token_id).unsqueeze(-1)
            embeds = embeds.masked_scatter(at, torch.cat(list(images)).to(embeds))
        out = self._model.model.language_model(
            inputs_embeds=embeds,
            attention_mask=torch.from_numpy(mask).to(on),
            position_ids=torch.from_numpy(positions(mask, ids.shape[1])).to(on),
            past_key_values=cache,
            use_cache=True,
        )
        return out.last_hidden_state


def dtype_of(options: ModelOptions) -> torch.dtype | str:
    """Return the precision of the weights; "auto" is that of the file."""
    if options.dtype is None:
        return torch.bfloat16 if options.quantize and torch.cuda.is_available() else "auto"
    return cast(torch.dtype, getattr(torch, options.dtype))


def weight_arguments(options: ModelOptions) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for the precision of the weights.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    dtype = dtype_of(options)
    computed = dtype if isinstance(dtype, torch.dtype) else torch.float32
    return {"dtype": dtype, **quantization(options.quantize, computed)}


def pick_device(name: str | None) -> torch.device:
    """Return a device that works; None takes the GPU where there is one."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}") from error
    return device

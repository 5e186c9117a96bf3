"""Image-text-to-text models of transformers with their own processors: Qwen-VL, InternVL, LLaVA, SmolVLM etc."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from lhrs.boxes import Size
from lhrs.errors import CheckpointError, ConfigError, MissingExtraError
from lhrs.inference.chat import conversation
from lhrs.inference.decoding import Constraint, TextStreamer, Vocabulary
from lhrs.inference.engine import TokenChoice, constraint
from lhrs.inference.model_family import family_for
from lhrs.inference.options import ModelOptions
from lhrs.inference.runtime import Generation, Request
from lhrs.inference.runtimes.tokenizer import TokenizerVocabulary
from lhrs.inference.runtimes.torch import pick_device, weight_arguments
from lhrs.reasoning import strip_reasoning

_REQUESTS_PER_BATCH = 8


class TransformersRuntime(TokenizerVocabulary):
    """Run a folder or hub id through its own `generate`.

    Args:
        model: folder or hub id for `from_pretrained`; code that comes with a model is never run.
        device: torch device; None takes the GPU where there is one.
        options: of loading, and of the images that the processor gets.

    Raises:
        ConfigError: there is no such device, or a system message is given to a model without a chat template.
        CheckpointError: the model does not load.
        MissingExtraError: the processor or quantized weights need a package that is not installed.
    """

    ood_threshold: float | None = None

    def __init__(
        self,
        model: str,
        device: str | None = None,
        options: ModelOptions = ModelOptions(),  # noqa: B008 (frozen)
    ) -> None:
        where, state = pick_device(device), options.revision or "main"
        self._options = options
        weights = weight_arguments(options)
        try:
            self._processor: Any = AutoProcessor.from_pretrained(model, revision=state)
            loaded: Any = AutoModelForImageTextToText.from_pretrained(model, revision=state, **weights)
        except ImportError as error:  # some processors want packages of their own
            raise MissingExtraError(f"{model}: {' '.join(str(error).split())[:300]}") from error
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{model} does not load as an image-text-to-text model: {reason}") from error
        self._model = (loaded if options.quantize else loaded.to(where)).eval()
        if options.system is not None and self._processor.chat_template is None:
            raise ConfigError(f"{model} has no chat template: it does not take --system.")
        self._tokenizer = self._processor.tokenizer
        # Encoders count absolute positions from the first token, padding included.
        self._tokenizer.padding_side = "right" if self._model.config.is_encoder_decoder else "left"
        stop = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        if stop is None:
            raise CheckpointError(f"{model} has no end token.")
        self.eos_token_ids = tuple(stop) if isinstance(stop, list) else (stop,)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.convert_ids_to_tokens(self.eos_token_ids[0])
        self._answer_start = self._start_answers()
        self._special = re.compile("|".join(map(re.escape, self._tokenizer.all_special_tokens)))
        self.family = family_for(self._model.config.model_type)
        self.name = Path(model).resolve().name if Path(model).is_dir() else model

    def _start_answers(self) -> list[int]:
        """Return the tokens before an answer in the decoder of an encoder-decoder model; none for other models.

        What its generation settings force or forbid would overrule constraints, and is removed.
        """
        if not self._model.config.is_encoder_decoder:
            return []
        settings = self._model.generation_config
        first = settings.decoder_start_token_id
        if first is None:
            first = self._model.config.text_config.decoder_start_token_id
        forced = settings.forced_bos_token_id
        settings.update(forced_bos_token_id=None, forced_eos_token_id=None, no_repeat_ngram_size=0)
        return [first] if forced is None else [first, forced]

    def ood_score(self, pixels: np.ndarray) -> None:
        """See `Runtime.ood_score`; there is no detector for these models."""
        return

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`."""
        replies: dict[int, Generation] = {}
        # Processors require images for all requests of a batch or for none.
        order = sorted(range(len(requests)), key=lambda i: (not requests[i].images, i))
        for start in range(0, len(order), _REQUESTS_PER_BATCH):
            part = order[start : start + _REQUESTS_PER_BATCH]
            for with_images in (True, False):
                rows = [i for i in part if bool(requests[i].images) == with_images]
                if rows:
                    replies.update(zip(rows, self._answer([requests[i] for i in rows], on_text), strict=True))
        return [replies[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _answer(self, requests: list[Request], on_text: Callable[[str], None] | None) -> list[Generation]:
        images = [[Image.fromarray(self._options.reduce(pixels)) for pixels in r.images] for r in requests]
        inputs = self._processor(
            text=[self._text(r) for r in requests],
            images=images if requests[0].images else None,
            padding=True,
            return_tensors="pt",
            **({"add_special_tokens": False} if self._processor.chat_template else {}),
        ).to(self._model.device, self._model.dtype)
        started: dict[str, Any] = {}
        if self._answer_start:
            rows = [self._answer_start] * len(requests)
            started = {"decoder_input_ids": torch.tensor(rows, device=self._model.device)}
        listeners = [on_text or r.on_text for r in requests]
        choose = _Choose(
            [_Row(r, constraint(r, self.family, self), listen) for r, listen in zip(requests, listeners, strict=True)],
            self,
            max(1, len(self._answer_start)) if self._model.config.is_encoder_decoder else inputs["input_ids"].shape[1],
        )
        tokens = self._model.generate(
            **inputs,
            **started,
            generation_config=GenerationConfig(
                max_new_tokens=max(row.limit for row in choose.rows),
                do_sample=False,
                num_beams=1,
                eos_token_id=list(self.eos_token_ids),
                pad_token_id=self._tokenizer.pad_token_id,
            ),
            logits_processor=LogitsProcessorList([choose]),
        )[:, choose.start :].tolist()
        sent = [each[0].size if each else (1, 1) for each in images]
        resized = self._resized(inputs, requests)
        read = inputs["attention_mask"].sum(1).tolist()
        return [self._reply(*row) for row in zip(choose.rows, tokens, sent, resized, read, strict=True)]

    def _text(self, request: Request) -> str:
        chat = conversation(request, self.family, self._special)
        if self._processor.chat_template is None:
            return " ".join(part["text"] for turn in chat for part in turn["content"] if part["type"] == "text")
        return self._processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)

    def _resized(self, inputs: Any, requests: list[Request]) -> list[Size | None]:
        """Return the resized (width, height) in pixels of the first image of each request; None if it is unknown."""
        grids = inputs.get("image_grid_thw")
        if grids is None:
            return [None] * len(requests)
        patch = self._processor.image_processor.patch_size
        starts = np.cumsum([0, *(len(r.images) for r in requests)])[:-1]
        return [(int(grids[n][2]) * patch, int(grids[n][1]) * patch) for n in starts]

    def _reply(
        self, row: "_Row", tokens: list[int], sent_wh: Size, resized_wh: Size | None, prompt_tokens: int
    ) -> Generation:
        kept: list[int] = []
        for token in tokens[: row.limit]:
            if token in self.eos_token_ids:
                break
            kept.append(token)
        text = self.decode(kept).strip() if row.constraint is None else row.constraint.text(kept)
        if row.stream is not None:
            row.stream.show(self.decode(kept), complete=True)
        probabilities = tuple(row.probabilities[: len(kept) + 1])
        answer = strip_reasoning(text) if row.constraint is None else text
        if answer != text:
            text, kept, probabilities = answer, [], ()  # not those of the reasoning
        boxes = self.family.read_boxes(text, self.family.pixel_size(sent_wh, resized_wh)).boxes
        pieces = tuple(self.decode([t]) for t in kept)
        return Generation(text, pieces, probabilities, boxes, prompt_tokens, resized_wh=resized_wh)


class _Row:
    """The constraint of one request of a batch, and the selected tokens."""

    def __init__(
        self, request: Request, allowed: Constraint | None, on_text: Callable[[str], None] | None = None
    ) -> None:
        self.request, self.constraint = request, allowed
        self.stream = None if on_text is None else TextStreamer(on_text)
        self.limit = (allowed.limit if allowed else None) or request.max_new_tokens
        self.probabilities: list[float] = []


class _Choose(LogitsProcessor):
    """Mask all but one token in each row, selected by the request's constraint and noise."""

    def __init__(self, rows: list[_Row], vocabulary: Vocabulary, start: int) -> None:
        self.rows, self.vocabulary, self.eos_token_ids = rows, vocabulary, vocabulary.eos_token_ids
        self.start = start
        """Number of tokens before the answer."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = []
        for n, row in enumerate(self.rows):
            tokens = input_ids[n, self.start :].tolist()
            if len(tokens) >= row.limit or any(t in self.eos_token_ids for t in tokens):
                chosen.append(self.eos_token_ids[0])  # this row is finished, other rows continue
                continue
            sampling = row.request.sampling
            noise = None if sampling is None else partial(sampling.noise, len(tokens))
            allowed = None if row.constraint is None else row.constraint.allowed(tokens)
            token, probability = TokenChoice(allowed, noise).pick(scores[n].float().cpu().numpy())
            row.probabilities.append(probability)
            chosen.append(token)
            if row.stream is not None and token not in self.eos_token_ids:
                row.stream.show(self.vocabulary.decode([*tokens, token]), complete=False)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, torch.tensor(chosen, device=scores.device)[:, None], 0.0)

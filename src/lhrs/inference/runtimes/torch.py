"""Any LHRS model through torch and transformers: bigger models, GPUs, conversations."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from lhrs.errors import CheckpointError, ConfigError
from lhrs.inference.decoding import Stream, Trie
from lhrs.inference.familiarity import Familiarity
from lhrs.inference.runtime import Reply, Request
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import LHRSProcessor

_REQUESTS_PER_BATCH = 16


class TorchRuntime:
    """Run an LHRS model folder or hub id.

    Args:
        model: folder or hub id for `from_pretrained`.
        device: torch device; None takes the GPU where there is one.

    Raises:
        ConfigError: there is no such device.
        CheckpointError: the model does not load, or cannot hold a conversation.
    """

    def __init__(self, model: str, device: str | None = None) -> None:
        where = _device(device)
        try:
            self._processor = LHRSProcessor.from_pretrained(model)
            loaded: Any = LHRSForConditionalGeneration.from_pretrained(model, dtype="auto")
            self._model = loaded.to(where).eval()
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{model} does not load as an LHRS model: {reason}") from error
        self.name = Path(model).resolve().name if Path(model).is_dir() else model
        self.box_style = getattr(self._model.config, "box_style", None) or "unit"
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        stop = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        if stop is None or self._processor.chat_template is None:
            raise CheckpointError(f"{model} has no {'end token' if stop is None else 'chat template'}.")
        self._eos: list[int] = stop if isinstance(stop, list) else [stop]
        familiarity = Path(model) / "familiarity.npz"
        self._familiarity = Familiarity.load(familiarity) if familiarity.exists() else None

    def unfamiliar(self, features: np.ndarray | None) -> bool:
        """See `Runtime.unfamiliar`."""
        if features is None or self._familiarity is None:
            return False
        return self._familiarity.distance(features) > self._familiarity.threshold

    def distance(self, pixels: np.ndarray) -> float | None:
        """See `Runtime.distance`."""
        features = self._features(pixels)
        return None if features is None or self._familiarity is None else self._familiarity.distance(features)

    @property
    def threshold(self) -> float | None:
        """See `Runtime.threshold`."""
        return None if self._familiarity is None else self._familiarity.threshold

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Reply]:
        """See `Runtime.generate`."""
        replies: list[Reply] = []
        for start in range(0, len(requests), _REQUESTS_PER_BATCH):
            replies += self._answer_batch(list(requests[start : start + _REQUESTS_PER_BATCH]), on_text)
        return replies

    @torch.inference_mode()
    def _answer_batch(self, requests: list[Request], on_text: Callable[[str], None] | None) -> list[Reply]:
        images = [Image.fromarray(r.pixels) for r in requests if r.pixels is not None]
        texts = [
            self._processor.apply_chat_template(_messages(r), tokenize=False, add_generation_prompt=True)
            for r in requests
        ]
        inputs = self._processor(
            text=texts, images=images or None, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self._model.device, self._model.dtype)
        choose = _Choose([self._trie(r) for r in requests], requests, self._eos)
        streamer = None if on_text is None or len(requests) > 1 else _Pieces(self._decode, Stream(on_text))
        done = self._model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=max(choose.limits),
                do_sample=False,
                eos_token_id=self._eos,
                pad_token_id=self._tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            ),
            logits_processor=LogitsProcessorList([choose]),
            streamer=streamer,
        )
        new = done.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        logits = torch.stack(done.logits, 1).float().cpu().numpy()
        return [
            self._reply(new[n][: choose.limits[n]], logits[n], choose.tries[n], self._features(r.pixels))
            for n, r in enumerate(requests)
        ]

    def _trie(self, request: Request) -> Trie | None:
        if request.options is None:
            return None
        encode = lambda text: self._tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        return Trie(request.options, encode, self._eos[0])

    def _reply(self, tokens: list[int], logits: np.ndarray, trie: Trie | None, features: np.ndarray | None) -> Reply:
        kept: list[int] = []
        probabilities: list[float] = []
        for token, row in zip(tokens, logits, strict=False):
            allowed = np.arange(len(row)) if trie is None else np.array(list(trie.walk(kept)))
            exp = np.exp(row[allowed] - row[allowed].max())
            probabilities.append(float(exp[allowed == token].sum() / exp.sum()))
            if token in self._eos:
                break
            kept.append(token)
        text = self._decode(kept) if trie is None else trie.option(kept)
        return Reply(text, tuple(self._decode([t]) for t in kept), tuple(probabilities), features)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode([t for t in tokens if t not in self._eos], skip_special_tokens=False)

    @torch.inference_mode()
    def _features(self, pixels: np.ndarray | None) -> np.ndarray | None:
        if pixels is None or self._familiarity is None:
            return None
        values = self._processor.image_processor(images=Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
        found = self._model.get_image_features(values.to(self._model.device, self._model.dtype))
        return found.last_hidden_state.mean(1)[0].float().cpu().numpy()


class _Choose(LogitsProcessor):
    """Leave only allowed tokens, and add the noise of sampling, row by row."""

    def __init__(self, tries: list[Trie | None], requests: list[Request], eos: list[int]) -> None:
        self.tries, self.requests, self.eos = tries, requests, eos
        self.limits = [r.max_new_tokens if t is None else t.depth for t, r in zip(tries, requests, strict=True)]
        self.start: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.start = input_ids.shape[1] if self.start is None else self.start
        for n, (trie, request) in enumerate(zip(self.tries, self.requests, strict=True)):
            tokens = input_ids[n, self.start :].tolist()
            if any(t in self.eos for t in tokens):
                continue
            if len(tokens) >= self.limits[n]:
                scores[n, self.eos[0]] = torch.inf  # this row is over, others of the batch go on
                continue
            if request.sampling is not None:
                noise = request.sampling.noise(len(tokens), scores.shape[1])
                scores[n] += torch.from_numpy(noise).to(scores.device, scores.dtype)
            if trie is not None:
                banned = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
                banned[list(trie.walk(tokens))] = False
                scores[n, banned] = -torch.inf
        return scores


class _Pieces(BaseStreamer):
    """Hand on text as tokens come; the first call holds the prompt."""

    def __init__(self, decode: Callable[[list[int]], str], stream: Stream) -> None:
        self.decode, self.stream = decode, stream
        self.tokens: list[int] | None = None

    def put(self, value: torch.Tensor) -> None:
        if self.tokens is None:
            self.tokens = []
            return
        self.tokens += value.flatten().tolist()
        self.stream.show(self.decode(self.tokens), complete=False)

    def end(self) -> None:
        self.stream.show(self.decode(self.tokens or []), complete=True)


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch built without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}") from error
    return device


def _messages(request: Request) -> list[dict]:
    """Return the conversation of a request; the image belongs to its first question."""
    turns: list[dict] = []
    for question, answer in [*request.history, (request.question, "")]:
        content = [{"type": "text", "text": question}]
        if not turns and request.pixels is not None:
            content.insert(0, {"type": "image"})
        turns += [{"role": "user", "content": content}]
        if answer:
            turns += [{"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    return turns

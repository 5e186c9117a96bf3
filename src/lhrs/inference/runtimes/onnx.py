"""LHRS models without torch: onnxruntime, tokenizers, jinja2 and numpy."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from lhrs.errors import CheckpointError
from lhrs.inference.chat import IMAGE_TOKEN, SINGLE_PROMPTS, conversation, read_template, special_pattern
from lhrs.inference.engine import Engine, Images, Prompt, TokenChoice, positions
from lhrs.inference.model_family import get_family
from lhrs.inference.ood import OODDetector
from lhrs.inference.runtime import Generation, Request
from lhrs.inference.runtimes.onnx_heads import OnnxHeads

_REQUESTS_PER_BATCH = 32
_SETTINGS = ("config.json", "processor_config.json", "generation_config.json")
_FILES = ("language.onnx", "tokenizer.json", "chat_template.jinja", "tokenizer_config.json", *_SETTINGS)


class OnnxRuntime:
    """Run a folder written by `lhrs.models.export_onnx`.

    Args:
        folder: the exported model.

    Raises:
        CheckpointError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        for needed in _FILES:
            if not (folder / needed).exists():
                raise CheckpointError(f"{folder} has no {needed}: it is not an exported lhrs model.")
        self.name = folder.resolve().name
        try:
            self._read(folder)
        except CheckpointError:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise it for damaged files, without a narrower class
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{folder} holds a damaged model: {reason}") from error
        self._engine = Engine(self, _REQUESTS_PER_BATCH)

    def _read(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        cpu = ["CPUExecutionProvider"]
        self._language = onnxruntime.InferenceSession(folder / "language.onnx", options, providers=cpu)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config, images, ends = (json.loads((folder / name).read_text(encoding="utf-8")) for name in _SETTINGS)
        self._vision = None
        if config.get("bridge_config") is not None:
            if not (folder / "vision.onnx").exists():
                raise CheckpointError(f"{folder} has no vision.onnx: it is not an exported lhrs model.")
            self._vision = onnxruntime.InferenceSession(folder / "vision.onnx", options, providers=cpu)
        self.heads = OnnxHeads(folder, options) if config.get("heads_config") is not None else None
        """The dense heads, from which answers come, see `lhrs.inference.perception`; None if the model has none."""
        self.family = get_family(config["model_family"])
        if config.get("system_prompt") is not None:
            self.family.system_prompt = config["system_prompt"]
        self._pixels = PixelSettings.from_config(images["image_processor"])
        text = config["text_config"]
        size = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
        self.max_length: int = text["max_position_embeddings"]
        self._cache_shape = (text["num_hidden_layers"], text["num_key_value_heads"], size)
        stop = ends["eos_token_id"]
        self.eos_token_ids: tuple[int, ...] = tuple(stop) if isinstance(stop, list) else (stop,)
        pad = ends.get("pad_token_id")
        self.pad_token_id: int = self.eos_token_ids[0] if pad is None else pad
        self._image: int = config["image_token_id"]
        self._num_image_tokens: int = images["num_image_tokens"]
        self._vocab_size: int = text["vocab_size"]
        self._no_image = np.zeros((1, text["hidden_size"]), np.float32)
        added = self._tokenizer.get_added_tokens_decoder().values()
        self._special = special_pattern(token.content for token in added if token.special)
        self._template = read_template(folder)
        single = folder / SINGLE_PROMPTS
        self._single_prompts = json.loads(single.read_text(encoding="utf-8")) if single.exists() else {}
        ood = folder / "ood.npz"
        self._ood = OODDetector.load(ood) if self._vision is not None and ood.exists() else None

    def ood_score(self, pixels: np.ndarray) -> float | None:
        """See `Runtime.ood_score`."""
        if self._ood is None:
            return None
        assert self._vision is not None
        return self._ood.ood_score(self._vision.run(None, {"pixel_values": self.prepare(pixels)[None]})[1][0])

    @property
    def ood_threshold(self) -> float | None:
        """See `Runtime.ood_threshold`."""
        return None if self._ood is None else self._ood.threshold

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`."""
        return self._engine.generate(requests, on_text)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 `(3, H, W)`, resized and normalized like by the processor of the torch path."""
        return self._pixels.prepare(pixels)

    def encode(self, text: str) -> list[int]:
        """See `Vocabulary.encode`."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Vocabulary.decode`."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)

    @cached_property
    def grammars(self) -> Any:
        """See `Vocabulary.grammars`."""
        from llguidance import LLTokenizer

        return LLTokenizer(self._tokenizer.to_str(), n_vocab=self._vocab_size, eos_token=self.eos_token_ids[0])

    def prompt(self, request: Request) -> Prompt:
        """See `Backend.prompt`."""
        text = self._prompt_text(request)
        ids = self.encode(text.replace(IMAGE_TOKEN, IMAGE_TOKEN * self._num_image_tokens))
        last = max((n for n, token in enumerate(ids) if token == self._image), default=0)
        return Prompt(tuple(ids[: last + 1]), tuple(ids[last + 1 :]))

    def _prompt_text(self, request: Request) -> str:
        single = self._single_prompts.get(str(len(request.images)))
        if single is None or self.family.system_prompt or request.history:
            return self._template.render(conversation(request, self.family, self._special))
        return self._special.sub(" ", request.question).join(single)

    def encode_images(self, images: Sequence[np.ndarray]) -> Images:
        """See `Backend.encode_images`."""
        if self._vision is None:
            raise CheckpointError(f"{self.name} has no bridge: its language model sees no images.")
        embeds, pooled = self._vision.run(None, {"pixel_values": np.stack([self.prepare(p) for p in images])})
        flags = [self._ood is not None and self._ood.is_ood(features) for features in pooled]
        return Images(list(embeds.reshape(len(images), self._num_image_tokens, -1)), flags)

    def start(self, ids: np.ndarray, mask: np.ndarray, images: Sequence[np.ndarray]) -> "Cache":
        """See `Backend.start`."""
        cache = Cache.empty(len(ids), *self._cache_shape)
        self._run(ids, np.concatenate(images) if images else self._no_image, mask, cache)
        return cache

    def step(
        self, ids: np.ndarray, mask: np.ndarray, cache: "Cache", choose: Callable[[], Sequence[TokenChoice]]
    ) -> tuple[list[int], list[float], "Cache"]:
        """See `Backend.step`. The cache is written in place."""
        logits = self._run(ids, self._no_image, mask, cache)
        picked = [choice.pick(row) for choice, row in zip(choose(), logits, strict=True)]
        return [token for token, _ in picked], [probability for _, probability in picked], cache

    def select_rows(self, cache: "Cache", rows: np.ndarray) -> "Cache":
        """See `Backend.select_rows`."""
        return cache.select_rows(rows)

    def _run(self, ids: np.ndarray, embeds: np.ndarray, mask: np.ndarray, cache: "Cache") -> np.ndarray:
        """Return logits `(rows, vocabulary)` of the last tokens; the cache grows by the tokens."""
        unused = np.zeros((len(ids), cache.capacity - cache.length), np.int64)
        seen = np.concatenate([mask[:, : cache.length], unused, mask[:, cache.length :]], 1)
        feed = {"input_ids": ids, "attention_mask": seen, "position_ids": positions(mask, ids.shape[1])}
        logits, *new = self._language.run(None, {**feed, "image_embeds": embeds, **cache.feed()})
        cache.add(new[::2], new[1::2])
        return logits


@dataclass(frozen=True)
class PixelSettings:
    """How images become the input of the encoder: resized whole to one size, then normalized."""

    size: tuple[int, int]
    """Width and height."""
    resample: int
    """Of `PIL.Image.Resampling`."""
    scale: float
    """Factor that makes fractions of pixel values."""
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PixelSettings":
        """Read the settings of an image processor of transformers."""
        mean, std = (np.array(config[name], np.float32)[:, None, None] for name in ("image_mean", "image_std"))
        size = (config["size"]["width"], config["size"]["height"])
        return cls(size, config["resample"], config["rescale_factor"], mean, std)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 `(3, H, W)` of uint8 `(H, W, 3)`, rounded like by the image processor."""
        from PIL import Image

        image = Image.fromarray(pixels)
        if image.size != self.size:
            image = image.resize(self.size, Image.Resampling(self.resample))
        fractions = (np.asarray(image).transpose(2, 0, 1) * np.float64(self.scale)).astype(np.float32)
        return (fractions - self.mean) / self.std


class Cache:
    """Keys `(B, H, d, C)` and values `(B, H, C, d)` of each layer, of which the first `length` of C are filled.

    New tokens are written into free capacity, so that a step does not copy previous ones.
    """

    _ROOM = 64

    def __init__(self, keys: list[np.ndarray], values: list[np.ndarray], length: int) -> None:
        self.keys, self.values, self.length = keys, values, length

    @classmethod
    def empty(cls, rows: int, layers: int, heads: int, size: int) -> "Cache":
        """Return a cache of nothing. It has a column, as a matrix without columns is no input for every kernel."""
        keys = [np.zeros((rows, heads, size, 1), np.float32) for _ in range(layers)]
        return cls(keys, [np.zeros((rows, heads, 1, size), np.float32) for _ in range(layers)], 0)

    @property
    def capacity(self) -> int:
        """Capacity in tokens."""
        return self.keys[0].shape[3]

    def feed(self) -> dict[str, np.ndarray]:
        """Return the inputs of the graph by name."""
        named = {f"keys_{n}": array for n, array in enumerate(self.keys)}
        return named | {f"values_{n}": array for n, array in enumerate(self.values)}

    def add(self, keys: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
        """Append `(B, H, d, T)` keys and `(B, H, T, d)` values of each layer."""
        end = self.length + keys[0].shape[3]
        if end > self.capacity:
            more = end + self._ROOM - self.capacity
            self.keys = [np.pad(array, [(0, 0), (0, 0), (0, 0), (0, more)]) for array in self.keys]
            self.values = [np.pad(array, [(0, 0), (0, 0), (0, more), (0, 0)]) for array in self.values]
        for all_keys, new_keys, all_values, new_values in zip(self.keys, keys, self.values, values, strict=True):
            all_keys[..., self.length : end] = new_keys
            all_values[:, :, self.length : end] = new_values
        self.length = end

    def select_rows(self, rows: np.ndarray) -> "Cache":
        """Return a copy of some rows, which may repeat."""
        return Cache([array[rows] for array in self.keys], [array[rows] for array in self.values], self.length)

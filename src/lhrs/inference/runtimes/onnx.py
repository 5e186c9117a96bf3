"""The embedded model without torch: onnxruntime, tokenizers and numpy.

An image is encoded once and its tokens are run through the language model once; every question about it continues
from that cache. Questions of a batch are padded on the left behind the shared prefix and masked there, so a batch
answers exactly as single questions do.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from lhrs.errors import CheckpointError, ConfigError
from lhrs.inference.decoding import Stream, Trie
from lhrs.inference.familiarity import Familiarity
from lhrs.inference.runtime import Reply, Request

_REQUESTS_PER_BATCH = 32
_FILES = (
    *("vision.onnx", "language.onnx", "model.safetensors"),
    *("tokenizer.json", "config.json", "processor_config.json"),
)


class OnnxRuntime:
    """Run a folder written by `lhrs.models.onnx_export`.

    Args:
        folder: the exported model.

    Raises:
        CheckpointError: a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        for needed in _FILES:
            if not (folder / needed).exists():
                raise CheckpointError(f"{folder} has no {needed}: it is not an exported lhrs model.")
        self.name, self.box_style = folder.resolve().name, "loc64"
        try:
            self._read(folder)
        except Exception as error:  # what onnxruntime and tokenizers raise for damaged files has no narrower base
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{folder} holds a damaged model: {reason}") from error
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def _read(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        cpu = ["CPUExecutionProvider"]
        self._vision = onnxruntime.InferenceSession(folder / "vision.onnx", options, providers=cpu)
        self._language = onnxruntime.InferenceSession(folder / "language.onnx", options, providers=cpu)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        images = json.loads((folder / "processor_config.json").read_text())["image_processor"]["size"]
        self._size = (images["width"], images["height"])
        text = config["text_config"]
        heads, self._longest = text["num_key_value_heads"], text["max_position_embeddings"]
        self._cache_shape = (text["num_hidden_layers"], 2, heads, text["hidden_size"] // text["num_attention_heads"])
        ids = cast(Callable[[str], int], self._tokenizer.token_to_id)
        self._eos, self._pad, self._answer = ids("<eos>"), ids("<pad>"), ids("<answer>")
        count = sum(config["bridge_config"]["queries"])
        self._with_image = [ids("<bos>"), ids("<user>"), *[ids("<image>")] * count]
        self._without_image = [ids("<bos>"), ids("<user>")]
        familiarity = folder / "familiarity.npz"
        self._familiarity = Familiarity.load(familiarity) if familiarity.exists() else None

    def unfamiliar(self, features: np.ndarray | None) -> bool:
        """See `Runtime.unfamiliar`."""
        if features is None or self._familiarity is None:
            return False
        return self._familiarity.distance(features) > self._familiarity.threshold

    def distance(self, pixels: np.ndarray) -> float | None:
        """See `Runtime.distance`."""
        if self._familiarity is None:
            return None
        return self._familiarity.distance(self._vision.run(None, {"pixel_values": self.prepare(pixels)[None]})[1][0])

    @property
    def threshold(self) -> float | None:
        """See `Runtime.threshold`."""
        return None if self._familiarity is None else self._familiarity.threshold

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Reply]:
        """See `Runtime.generate`. The model knows single questions: the history of a request is not read."""
        replies: dict[int, Reply] = {}
        order = sorted(range(len(requests)), key=lambda i: (requests[i].pixels is None, i))
        for start in range(0, len(order), _REQUESTS_PER_BATCH):
            chunk = order[start : start + _REQUESTS_PER_BATCH]
            for has_image in (True, False):
                rows = [i for i in chunk if (requests[i].pixels is not None) == has_image]
                if rows:
                    found = self._answer_batch([requests[i] for i in rows], has_image, on_text)
                    replies.update(zip(rows, found, strict=True))
        return [replies[i] for i in range(len(requests))]

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 `(3, S, S)` in [-1, 1], resized as the processor of the torch path does."""
        from PIL import Image

        image = Image.fromarray(pixels)
        if image.size != self._size:
            image = image.resize(self._size, Image.Resampling.BILINEAR)
        return (np.asarray(image, np.float32).transpose(2, 0, 1) / 255.0 - 0.5) / 0.5

    def _answer_batch(
        self, requests: list[Request], has_image: bool, on_text: Callable[[str], None] | None
    ) -> list[Reply]:
        if not has_image:
            prefix = self._without_image
            cache = self._prefill_prefix(np.tile(prefix, (len(requests), 1)), self._no_image())
            return self._decode(requests, cache, len(prefix), [None] * len(requests), on_text)
        distinct = {id(r.pixels): r.pixels for r in requests if r.pixels is not None}
        place = {key: n for n, key in enumerate(distinct)}
        cache, pooled = self._read_images(list(distinct.values()))
        at = [place[id(r.pixels)] for r in requests]
        return self._decode(requests, cache[:, :, at], len(self._with_image), [pooled[n] for n in at], on_text)

    def _read_images(self, images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the cache after the image prefix and the pooled features; the last single image is remembered."""
        if len(images) == 1 and self._last is not None and self._last[0] is images[0]:
            return self._last[1], self._last[2]
        embeds, pooled = self._vision.run(None, {"pixel_values": np.stack([self.prepare(p) for p in images])})
        prefix = np.tile(self._with_image, (len(images), 1))
        cache = self._prefill_prefix(prefix, embeds.reshape(-1, embeds.shape[-1]))
        self._last = (images[0], cache, pooled) if len(images) == 1 else None
        return cache, pooled

    def _no_image(self) -> np.ndarray:
        _, _, heads, size = self._cache_shape
        return np.zeros((1, heads * size), np.float32)

    def _prefill_prefix(self, ids: np.ndarray, embeds: np.ndarray) -> np.ndarray:
        layers, two, heads, size = self._cache_shape
        empty = np.zeros((layers, two, len(ids), heads, 0, size), np.float32)
        positions = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
        return self._run(ids, embeds, np.ones_like(ids), positions, empty)[1]

    def _run(
        self, ids: np.ndarray, embeds: np.ndarray, mask: np.ndarray, positions: np.ndarray, past: np.ndarray
    ) -> list[np.ndarray]:
        feed = {"input_ids": ids, "image_embeds": embeds, "attention_mask": mask, "position_ids": positions}
        feed = {k: v if v.dtype == np.float32 else v.astype(np.int64) for k, v in feed.items()}
        return self._language.run(None, {**feed, "past": past})

    def _decode(
        self,
        requests: list[Request],
        cache: np.ndarray,
        prefix: int,
        features: Sequence[np.ndarray | None],
        on_text: Callable[[str], None] | None,
    ) -> list[Reply]:
        questions = [[*self._encode(r.question), self._answer] for r in requests]
        self._check_length(max(questions, key=len), prefix)
        longest = max(map(len, questions))
        ids = np.array([[self._pad] * (longest - len(q)) + q for q in questions])
        asked = np.array([[0] * (longest - len(q)) + [1] * len(q) for q in questions])
        mask = np.concatenate([np.ones((len(ids), prefix), np.int64), asked], 1)
        positions = prefix + np.maximum(asked.cumsum(1) - 1, 0)
        writers = [_Writer(r, self._trie(r), self._eos) for r in requests]
        stream = None if on_text is None else Stream(on_text)
        rows = np.arange(len(requests))
        while True:
            logits, cache = self._run(ids, self._no_image(), mask, positions, cache)
            for n, row in enumerate(rows):
                writers[row].step(logits[n])
            if stream is not None:
                stream.show(self._decode_tokens(writers[0].tokens), writers[0].done)
            keep = np.array([not writers[row].done for row in rows])
            if not keep.any():
                break
            if not keep.all():
                rows, cache, mask, positions = rows[keep], cache[:, :, keep], mask[keep], positions[keep]
            positions = positions[:, -1:] + 1
            ids = np.array([[writers[row].tokens[-1]] for row in rows])
            mask = np.concatenate([mask, np.ones((len(rows), 1), np.int64)], 1)
        return [self._reply(w, f) for w, f in zip(writers, features, strict=True)]

    def _check_length(self, question: list[int], prefix: int) -> None:
        if prefix + len(question) > self._longest:
            raise ConfigError(
                f"the question with its options has {len(question)} tokens; "
                f"{self.name} reads at most {self._longest - prefix}: ask a shorter one."
            )

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _trie(self, request: Request) -> Trie | None:
        if request.options is None:
            return None
        return Trie(request.options, self._encode, self._eos)

    def _reply(self, writer: "_Writer", features: np.ndarray | None) -> Reply:
        tokens = [t for t in writer.tokens if t != self._eos]
        text = self._decode_tokens(tokens) if writer.trie is None else writer.trie.option(tokens)
        pieces = tuple(self._decode_tokens([t]) for t in tokens)
        return Reply(text, pieces, tuple(writer.probabilities), features)

    def _decode_tokens(self, tokens: list[int]) -> str:
        return self._tokenizer.decode([t for t in tokens if t != self._eos], skip_special_tokens=False)


class _Writer:
    """The answer of one request as it grows."""

    def __init__(self, request: Request, trie: Trie | None, eos: int) -> None:
        self.trie, self.eos, self.sampling = trie, eos, request.sampling
        self.limit = request.max_new_tokens if trie is None else trie.depth
        self.tokens: list[int] = []
        self.probabilities: list[float] = []
        self.done = False

    def step(self, logits: np.ndarray) -> None:
        """Choose the next token; tokens that a trie forces need no further step of the model at the end."""
        allowed = None if self.trie is None else list(self.trie.walk(self.tokens))
        scores = logits if allowed is None else logits[allowed]
        exp = np.exp(scores - scores.max())
        if self.sampling is not None:
            noise = self.sampling.noise(len(self.tokens), len(logits))
            scores = scores + (noise if allowed is None else noise[allowed])
        best = int(scores.argmax())
        self.tokens.append(best if allowed is None else allowed[best])
        self.probabilities.append(float(exp[best] / exp.sum()))
        if self.trie is not None and self.tokens[-1] != self.eos:
            rest = self.trie.forced(self.trie.walk(self.tokens))
            if rest and rest[-1] == self.eos:
                self.tokens += rest
                self.probabilities += [1.0] * len(rest)
        self.done = self.tokens[-1] == self.eos or len(self.tokens) >= self.limit

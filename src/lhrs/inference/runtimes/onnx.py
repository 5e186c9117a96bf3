"""The embedded model without torch: onnxruntime, tokenizers and numpy.

An image is encoded once and its tokens are run through the language model once; every question about it continues from that
cache. Questions of a batch are padded on the left behind the shared prefix and masked there, so a batch answers exactly as
single questions do.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lhrs.errors import CheckpointError
from lhrs.inference.decoding import Trie
from lhrs.inference.familiarity import Familiarity
from lhrs.inference.runtime import Reply, Request

_IMAGES_PER_BATCH = 32
_REQUESTS_PER_BATCH = 32


class OnnxRuntime:
    """Run a folder written by `lhrs.models.onnx_export`."""

    def __init__(self, folder: Path, name: str | None = None, threads: int = 0) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        for needed in ("vision.onnx", "language.onnx", "model.safetensors", "tokenizer.json", "config.json"):
            if not (folder / needed).exists():
                raise CheckpointError(f"{folder} has no {needed}: it is not an exported lhrs model.")
        self.name = name or folder.name
        self.box_style = "loc64"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        cpu = ["CPUExecutionProvider"]
        self._vision = onnxruntime.InferenceSession(folder / "vision.onnx", options, providers=cpu)
        self._language = onnxruntime.InferenceSession(folder / "language.onnx", options, providers=cpu)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
        images = json.loads((folder / "processor_config.json").read_text())["image_processor"]["size"]
        self._size = (images["width"], images["height"])
        text = config["text_config"]
        heads = text["num_key_value_heads"]
        self._cache_shape = (text["num_hidden_layers"], 2, heads, text["hidden_size"] // text["num_attention_heads"])
        ids = self._tokenizer.token_to_id
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

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """See `Runtime.generate`."""
        replies: dict[int, Reply] = {}
        order = sorted(range(len(requests)), key=lambda i: (requests[i].pixels is None, i))
        for start in range(0, len(order), _REQUESTS_PER_BATCH):
            chunk = order[start : start + _REQUESTS_PER_BATCH]
            for has_image in (True, False):
                rows = [i for i in chunk if (requests[i].pixels is not None) == has_image]
                if rows:
                    found = self._answer_batch([requests[i] for i in rows], has_image)
                    replies.update(zip(rows, found, strict=True))
        return [replies[i] for i in range(len(requests))]

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 `(3, S, S)` in [-1, 1], resized as the processor of the torch path does."""
        from PIL import Image

        image = Image.fromarray(pixels)
        if image.size != self._size:
            image = image.resize(self._size, Image.Resampling.BILINEAR)
        return (np.asarray(image, np.float32).transpose(2, 0, 1) / 255.0 - 0.5) / 0.5

    def _answer_batch(self, requests: list[Request], has_image: bool) -> list[Reply]:
        prefix = self._with_image if has_image else self._without_image
        features: list[np.ndarray | None] = [None] * len(requests)
        if has_image:
            distinct = list({id(r.pixels): r.pixels for r in requests}.items())
            place = {key: n for n, (key, _) in enumerate(distinct)}
            embeds, pooled = self._vision.run(None, {"pixel_values": np.stack([self.prepare(p) for _, p in distinct])})
            cache = self._prefill_prefix(np.tile(prefix, (len(distinct), 1)), embeds.reshape(-1, embeds.shape[-1]))
            at = [place[id(r.pixels)] for r in requests]
            cache, features = cache[:, :, at], [pooled[n] for n in at]
        else:
            cache = self._prefill_prefix(np.tile(prefix, (len(requests), 1)), self._no_image())
        return self._decode(requests, cache, len(prefix), features)

    def _no_image(self) -> np.ndarray:
        layers, _, heads, size = self._cache_shape
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
        self, requests: list[Request], cache: np.ndarray, prefix: int, features: list[np.ndarray | None]
    ) -> list[Reply]:
        questions = [[*self._encode(r.question), self._answer] for r in requests]
        longest = max(map(len, questions))
        ids = np.array([[self._pad] * (longest - len(q)) + q for q in questions])
        asked = np.array([[0] * (longest - len(q)) + [1] * len(q) for q in questions])
        mask = np.concatenate([np.ones((len(ids), prefix), np.int64), asked], 1)
        positions = prefix + np.maximum(asked.cumsum(1) - 1, 0)
        writers = [_Writer(self._trie(r), r.max_new_tokens, self._eos) for r in requests]
        rows = np.arange(len(requests))
        while True:
            logits, cache = self._run(ids, self._no_image(), mask, positions, cache)
            for n, row in enumerate(rows):
                writers[row].step(logits[n])
            keep = np.array([not writers[row].done for row in rows])
            if not keep.any():
                break
            rows = rows[keep]
            cache, mask, positions = cache[:, :, keep], mask[keep], positions[keep, -1:] + 1
            ids = np.array([[writers[row].tokens[-1]] for row in rows])
            mask = np.concatenate([mask, np.ones((len(rows), 1), np.int64)], 1)
        return [self._reply(w, f) for w, f in zip(writers, features, strict=True)]

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _trie(self, request: Request) -> Trie | None:
        if request.options is None:
            return None
        return Trie([[*self._encode(o), self._eos] for o in request.options])

    def _reply(self, writer: "_Writer", features: np.ndarray | None) -> Reply:
        tokens = [t for t in writer.tokens if t != self._eos]
        decode = lambda t: self._tokenizer.decode(t, skip_special_tokens=False)  # noqa: E731
        return Reply(decode(tokens), tuple(decode([t]) for t in tokens), tuple(writer.probabilities), features)


class _Writer:
    """The answer of one request as it grows."""

    def __init__(self, trie: Trie | None, limit: int, eos: int) -> None:
        self.trie, self.limit, self.eos = trie, limit, eos
        self.tokens: list[int] = []
        self.probabilities: list[float] = []
        self.done = False

    def step(self, logits: np.ndarray) -> None:
        """Choose the next token; tokens that a trie forces need no further step of the model at the end."""
        allowed = None if self.trie is None else list(self.trie.walk(self.tokens))
        scores = logits if allowed is None else logits[allowed]
        exp = np.exp(scores - scores.max())
        best = int(scores.argmax())
        self.tokens.append(best if allowed is None else allowed[best])
        self.probabilities.append(float(exp[best] / exp.sum()))
        if self.trie is not None and self.tokens[-1] != self.eos:
            rest = self.trie.forced(self.trie.walk(self.tokens))
            if rest and rest[-1] == self.eos:
                self.tokens += rest
                self.probabilities += [1.0] * len(rest)
        self.done = self.tokens[-1] == self.eos or len(self.tokens) >= self.limit

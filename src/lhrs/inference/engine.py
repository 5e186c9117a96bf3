"""Batched generation for all backends.

Each distinct image is encoded once. Each distinct prompt prefix (up to its last image) is prefilled once, and all
questions that share it reuse its key-value cache. Prompts are left-padded and masked, so that a batch returns exactly
the answers of single requests. Complete answers leave the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from lhrs.errors import ConfigError
from lhrs.inference.decoding import Constraint, OptionConstraint, RegexConstraint, TextStreamer, Vocabulary
from lhrs.inference.model_family import ModelFamily
from lhrs.inference.runtime import Generation, Request


@dataclass(frozen=True)
class Prompt:
    """A request in tokens."""

    prefix: tuple[int, ...]
    """Tokens up to the last image token, or before the question; it may be shared by other requests."""
    rest: tuple[int, ...]
    """The question and all tokens after it; never empty."""


@dataclass(frozen=True)
class TokenChoice:
    """Selection of the next token of one request."""

    allowed: np.ndarray | None
    """Allowed tokens; None is all."""
    noise: Callable[[int], np.ndarray] | None
    """Maps the vocabulary size to noise `(vocabulary,)` that is added to the logits."""

    def pick(self, logits: np.ndarray) -> tuple[int, float]:
        """Return the best token of `(vocabulary,)` logits and its probability among the allowed ones."""
        scores = logits if self.allowed is None else logits[self.allowed]
        exp = np.exp(scores - scores.max())
        if self.noise is not None:
            noise = self.noise(len(logits))
            scores = scores + (noise if self.allowed is None else noise[self.allowed])
        best = int(scores.argmax())
        return best if self.allowed is None else int(self.allowed[best]), float(exp[best] / exp.sum())


@dataclass(frozen=True)
class Images:
    """Encoded images."""

    tokens: Any
    """Inputs of the language model, one entry per image."""
    out_of_distribution: list[bool]
    """Whether an image is unlike the training images, per image; False without a detector."""


class Backend(Vocabulary, Protocol):
    """A vision-language model, run step by step. Arrays are int64 unless specified otherwise."""

    name: str
    family: ModelFamily
    pad_token_id: int
    max_length: int
    """Context length in tokens: prompt and answer."""

    def prompt(self, request: Request) -> Prompt:
        """Tokenize a request, with the placeholder tokens of its images."""
        ...

    def encode_images(self, images: Sequence[np.ndarray]) -> Images:
        """Encode distinct images."""
        ...

    def start(self, ids: np.ndarray, mask: np.ndarray, images: Sequence[Any]) -> Any:
        """Prefill `(rows, prefix)` tokens and return the cache; `images` holds those of all rows in reading order."""
        ...

    def step(
        self, ids: np.ndarray, mask: np.ndarray, cache: Any, choose: Callable[[], Sequence[TokenChoice]]
    ) -> tuple[list[int], list[float], Any]:
        """Append `(rows, T)` tokens to the cache; return the next token of each row, its probability, the cache.

        `mask` is `(rows, cached + T)`. `choose` is called once, possibly while the model is still running.
        """
        ...

    def select_rows(self, cache: Any, rows: np.ndarray) -> Any:
        """Return the cache of some rows, which may repeat; the input cache is not modified."""
        ...


@dataclass(frozen=True)
class _PrefixCache:
    """Cache of one or more prefixes."""

    key: tuple
    """Identities of the images of the first prefix, and its tokens."""
    images: list[np.ndarray]
    """References that keep the identities (`id`) of the images unique."""
    cache: Any
    mask: np.ndarray
    out_of_distribution: list[bool]


class Engine:
    """Answers requests through a backend.

    Args:
        backend: of the model.
        batch_size: maximum number of requests in a batch.
    """

    def __init__(self, backend: Backend, batch_size: int) -> None:
        self.backend, self.batch_size = backend, batch_size
        self._last: _PrefixCache | None = None

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """See `Runtime.generate`."""
        prompts = [self.backend.prompt(request) for request in requests]
        for prompt in prompts:
            self._check_length(prompt)
        first: dict[tuple, int] = {}
        keys = [(tuple(map(id, r.images)), p.prefix) for r, p in zip(requests, prompts, strict=True)]
        for key in keys:
            first.setdefault(key, len(first))
        order = sorted(range(len(requests)), key=lambda i: (len(prompts[i].prefix), first[keys[i]], i))
        replies: dict[int, Generation] = {}
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            cache, prefix_mask, ood = self._begin([requests[i] for i in rows], [keys[i] for i in rows])
            generations = self._answer([requests[i] for i in rows], [prompts[i].rest for i in rows],
                                 cache, prefix_mask, ood, on_text)  # fmt: skip
            replies.update(zip(rows, generations, strict=True))
        return [replies[i] for i in range(len(requests))]

    def _begin(self, requests: list[Request], keys: list[tuple]) -> tuple[Any, np.ndarray, list[bool]]:
        """Return cache, mask and out-of-distribution flag of each request's prefix; a single prefix is cached."""
        place: dict[tuple, int] = {}
        for key in keys:
            place.setdefault(key, len(place))
        prefixes = self._last
        if prefixes is None or len(place) > 1 or prefixes.key != keys[0]:
            first = [requests[keys.index(key)] for key in place]
            prefixes = self._read_prefixes(first, [key[1] for key in place], keys[0])
            self._last = prefixes if len(place) == 1 else None
        at = np.array([place[key] for key in keys])
        return (
            self.backend.select_rows(prefixes.cache, at),
            prefixes.mask[at],
            [prefixes.out_of_distribution[n] for n in at],
        )

    def _read_prefixes(self, requests: list[Request], prefixes: list[tuple[int, ...]], key: tuple) -> "_PrefixCache":
        distinct = {id(image): image for request in requests for image in request.images}
        images = self.backend.encode_images(list(distinct.values())) if distinct else Images([], [])
        number = {identity: n for n, identity in enumerate(distinct)}
        ids, mask = _pad_left(prefixes, self.backend.pad_token_id)
        of_rows = [images.tokens[number[id(image)]] for request in requests for image in request.images]
        ood = [bool(r.images) and images.out_of_distribution[number[id(r.images[0])]] for r in requests]
        return _PrefixCache(key, list(distinct.values()), self.backend.start(ids, mask, of_rows), mask, ood)

    def _answer(
        self,
        requests: list[Request],
        questions: Sequence[Sequence[int]],
        cache: Any,
        prefix_mask: np.ndarray,
        ood: list[bool],
        on_text: Callable[[str], None] | None,
    ) -> list[Generation]:
        ids, question_mask = _pad_left(questions, self.backend.pad_token_id)
        mask = np.concatenate([prefix_mask, question_mask], 1)
        sequences = [_Sequence(r, self.backend, self.backend.max_length - int(m.sum())) for r, m in
                   zip(requests, mask, strict=True)]  # fmt: skip
        streams = [TextStreamer(listen) if (listen := on_text or r.on_text) else None for r in requests]
        rows = np.arange(len(requests))
        while True:
            tokens, probabilities, cache = self.backend.step(
                ids, mask, cache, partial(_choices, [sequences[row] for row in rows])
            )
            for row, token, probability in zip(rows, tokens, probabilities, strict=True):
                sequences[row].write(token, probability)
                if (stream := streams[row]) is not None:
                    stream.show(self.backend.decode(sequences[row].tokens), sequences[row].done)
            keep = np.array([not sequences[row].done for row in rows])
            if not keep.any():
                read = (prefix_mask.sum(1) + question_mask.sum(1)).tolist()
                return [w.reply(n, flag) for w, n, flag in zip(sequences, read, ood, strict=True)]
            if not keep.all():
                rows, mask, cache = rows[keep], mask[keep], self.backend.select_rows(cache, np.flatnonzero(keep))
            ids = np.array([[sequences[row].tokens[-1]] for row in rows])
            mask = np.concatenate([mask, np.ones((len(rows), 1), np.int64)], 1)

    def _check_length(self, prompt: Prompt) -> None:
        count, longest = len(prompt.prefix) + len(prompt.rest), self.backend.max_length
        if count > longest:
            raise ConfigError(
                f"the question with its options and images has {count} tokens; "
                f"{self.backend.name} reads at most {longest}: ask a shorter one."
            )


def _choices(sequences: "Sequence[_Sequence]") -> list[TokenChoice]:
    return [sequence.choice() for sequence in sequences]


class _Sequence:
    """The answer of one request during generation."""

    def __init__(self, request: Request, backend: Backend, room: int) -> None:
        self.backend, self.sampling = backend, request.sampling
        self.constraint = constraint(request, backend.family, backend)
        limit = request.max_new_tokens if self.constraint is None else self.constraint.limit or request.max_new_tokens
        self.limit = max(min(limit, room), 1)
        self.tokens: list[int] = []
        self.probabilities: list[float] = []
        self.done = False

    def choice(self) -> TokenChoice:
        noise = None if self.sampling is None else partial(self.sampling.noise, len(self.tokens))
        return TokenChoice(None if self.constraint is None else self.constraint.allowed(self.tokens), noise)

    def write(self, token: int, probability: float) -> None:
        """Append the next token. If a constraint then determines all remaining tokens, they need no model step."""
        end = self.backend.eos_token_ids
        self.probabilities.append(probability)
        self.done = token in end
        if not self.done:
            self.tokens.append(token)
            forced = [] if self.constraint is None else self.constraint.forced(self.tokens)
            if forced:
                self.tokens += forced[:-1]
                self.probabilities += [1.0] * len(forced)
                self.done = True
        self.done = self.done or len(self.tokens) >= self.limit

    def reply(self, prompt_tokens: int, out_of_distribution: bool) -> Generation:
        decode = self.backend.decode
        text = decode(self.tokens) if self.constraint is None else self.constraint.text(self.tokens)
        pieces = tuple(decode([t]) for t in self.tokens)
        boxes = self.backend.family.read_boxes(text, (1, 1)).boxes
        return Generation(text, pieces, tuple(self.probabilities), boxes, prompt_tokens, out_of_distribution)


def constraint(request: Request, family: ModelFamily, vocabulary: Vocabulary) -> Constraint | None:
    """Return the constraint of a request; None allows any answer."""
    if request.options is not None:
        return OptionConstraint(request.options, vocabulary)
    if request.answer_type == "number":
        return RegexConstraint(r"0|[1-9][0-9]{0,4}", vocabulary)
    if request.answer_type == "query":
        from lhrs.inference.query_constraint import QueryConstraint

        return QueryConstraint(request.question, vocabulary)
    if request.answer_type == "boxes":
        return family.box_constraint(vocabulary)
    return None


def positions(mask: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of the last `count` tokens of `(rows, tokens)` masks; masked tokens are not counted."""
    return np.maximum(mask.cumsum(1) - 1, 0)[:, mask.shape[1] - count :]


def _pad_left(rows: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask `(rows, longest)`."""
    longest = max(map(len, rows))
    ids = np.array([[pad] * (longest - len(r)) + list(r) for r in rows], np.int64)
    mask = np.array([[0] * (longest - len(r)) + [1] * len(r) for r in rows], np.int64)
    return ids.reshape(len(rows), longest), mask.reshape(len(rows), longest)

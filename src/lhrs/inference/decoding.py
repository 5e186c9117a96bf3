"""Constrained decoding, and streaming of text."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from lhrs.boxes import box_pattern, max_coordinate_with_prefix
from lhrs.errors import ConfigError

MAX_BOXES = 24
"""Maximum number of boxes in a constrained answer."""


class Vocabulary(Protocol):
    """The tokenizer interface of constraints."""

    eos_token_ids: tuple[int, ...]
    """Tokens that end an answer; the first is the one that is generated."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of plain text."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special tokens included."""
        ...

    @property
    def grammars(self) -> Any:
        """The `llguidance.LLTokenizer` of this vocabulary."""
        ...


class Constraint(Protocol):
    """The allowed answers of a request, followed one token at a time."""

    limit: int | None
    """Maximum number of tokens of an answer, including the end token; None is the request's limit."""

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """Return the allowed next tokens, at least one."""
        ...

    def forced(self, tokens: Sequence[int]) -> list[int]:
        """Return the remaining tokens if they are unique, else nothing."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens without the end token; an incomplete answer is truncated to a valid one."""
        ...


class OptionConstraint:
    """One of several texts, as a token trie.

    Raises:
        ConfigError: two options are the same tokens, or one has none.
    """

    def __init__(self, options: Sequence[str], vocabulary: Vocabulary) -> None:
        self.root: dict[int, dict] = {}
        self._end = vocabulary.eos_token_ids
        self._option: dict[tuple[int, ...], str] = {}
        for option in options:
            tokens = tuple(vocabulary.encode(option))
            if not tokens or tokens in self._option:
                same = f"the same as {self._option[tokens]!r}" if tokens else "no text"
                raise ConfigError(f"option {option!r} is {same} to the model.")
            self._option[tokens] = option
            node = self.root
            for token in tokens:
                node = node.setdefault(token, {})
            node.update({end: {} for end in self._end})
        self.limit: int | None = 1 + max(map(len, self._option))

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """See `Constraint.allowed`."""
        return np.array(list(self._walk(tokens)))

    def forced(self, tokens: Sequence[int]) -> list[int]:
        """See `Constraint.forced`."""
        path: list[int] = []
        node = self._walk(tokens)
        while len(node) == 1 and (token := next(iter(node))) not in self._end:
            path.append(token)
            node = node[token]
        return [*path, self._end[0]] if set(node) == set(self._end) else []

    def text(self, tokens: Sequence[int]) -> str:
        """See `Constraint.text`."""
        return self._option[tuple(tokens)]

    def _walk(self, tokens: Sequence[int]) -> dict[int, dict]:
        node = self.root
        for token in tokens:
            node = node[token]
        return node


class RegexConstraint:
    """Text that fully matches a regular expression of Rust's `regex` crate.

    Raises:
        ConfigError: the expression is invalid.
    """

    limit: int | None = None

    def __init__(self, pattern: str, vocabulary: Vocabulary) -> None:
        from llguidance import LLMatcher

        self._vocabulary, self._seen = vocabulary, 0
        self._matcher = LLMatcher(vocabulary.grammars, LLMatcher.grammar_from_regex(pattern), log_level=0)
        if self._matcher.is_error():
            raise ConfigError(f"pattern {pattern!r}: {self._matcher.get_error()}")
        self._whole = re.compile(pattern)

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """See `Constraint.allowed`."""
        self._matcher.consume_tokens(list(tokens[self._seen :]))
        self._seen = len(tokens)
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        accepted = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
        ends = self._vocabulary.eos_token_ids
        if not self._matcher.is_accepting():
            return accepted
        return np.union1d(accepted, ends)  # the grammar has one end token, a model may have several

    def forced(self, tokens: Sequence[int]) -> list[int]:
        """See `Constraint.forced`."""
        return []

    def text(self, tokens: Sequence[int]) -> str:
        """See `Constraint.text`."""
        for length in range(len(tokens), 0, -1):
            if self._whole.fullmatch(text := self._vocabulary.decode(tokens[:length])):
                return text
        return ""


class BoxConstraint(RegexConstraint):
    """Boxes in one of the text styles of `lhrs.boxes`, each with x2 >= x1 and y2 >= y1.

    The pattern enforces the format. The valid range of the next number is computed from the text so far: all numbers of
    a constrained answer are coordinates, four per box.
    """

    def __init__(self, style: str, vocabulary: Vocabulary) -> None:
        box, joint = box_pattern(style)
        super().__init__(rf"{box}(?:{joint}{box}){{0,{MAX_BOXES - 1}}}", vocabulary)
        self._box = re.compile(rf"{box}(?:{joint}{box})*")
        self._largest = cache(lambda beginning: max_coordinate_with_prefix(beginning, style))

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """See `Constraint.allowed`."""
        candidates, ends = super().allowed(tokens), self._vocabulary.eos_token_ids
        return np.array(
            [t for t in candidates if t in ends or self._ordered(self._vocabulary.decode([*tokens, int(t)]))]
        )

    def text(self, tokens: Sequence[int]) -> str:
        """See `Constraint.text`."""
        whole = self._vocabulary.decode(tokens)
        match = self._box.match(whole)
        return match[0] if match else super().text(tokens)

    def _ordered(self, text: str) -> bool:
        numbers = re.findall(r"\d[\d.]*", text)
        complete = len(numbers) - text[-1:].isdigit() - text.endswith(".")
        for n in range(max(len(numbers) - 8, 0), len(numbers)):
            upper = float(numbers[n]) if n < complete else self._largest(numbers[n])
            if n % 4 >= 2 and upper < float(numbers[n - 2]):
                return False
        return True


class TextStreamer:
    """Streams an answer as text deltas. A character is held back until all of its bytes are decoded."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text, self._num_shown = on_text, 0

    def show(self, text: str, complete: bool) -> None:
        """Receive the full answer so far."""
        ready = text if complete else text.rstrip("\ufffd")
        if len(ready) > self._num_shown:
            self._on_text(ready[self._num_shown :])
            self._num_shown = len(ready)

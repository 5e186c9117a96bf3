"""Constrained decoding, and text handed on while it grows."""

from collections.abc import Callable, Sequence

from lhrs.errors import ConfigError


class Trie:
    """The allowed answers of a request as a tree of tokens, walked one token at a time.

    Args:
        options: the allowed answers.
        encode: text to token ids; texts it cannot tell apart are refused.
        end: the token that ends every answer.

    Raises:
        ConfigError: two options are the same tokens, or one has none.
    """

    def __init__(self, options: Sequence[str], encode: Callable[[str], Sequence[int]], end: int) -> None:
        self.root: dict[int, dict] = {}
        self._option: dict[tuple[int, ...], str] = {}
        for option in options:
            tokens = tuple(encode(option))
            if not tokens or tokens in self._option:
                same = f"the same as {self._option[tokens]!r}" if tokens else "no text"
                raise ConfigError(f"option {option!r} is {same} to the model.")
            self._option[tokens] = option
            node = self.root
            for token in (*tokens, end):
                node = node.setdefault(token, {})

    @property
    def depth(self) -> int:
        """Tokens of the longest answer, the end token included."""
        return 1 + max(map(len, self._option))

    def option(self, tokens: Sequence[int]) -> str:
        """Return the option that a complete answer, without its end token, spells."""
        return self._option[tuple(tokens)]

    def forced(self, node: dict[int, dict]) -> list[int]:
        """Return the tokens that follow without a choice, up to the next fork or the end."""
        path: list[int] = []
        while len(node) == 1:
            token, node = next(iter(node.items()))
            path.append(token)
        return path

    def walk(self, tokens: Sequence[int]) -> dict[int, dict]:
        """Return the node that a sequence of tokens leads to."""
        node = self.root
        for token in tokens:
            node = node[token]
        return node


class Stream:
    """Hands on an answer piece by piece while it grows; a character waits until all of its bytes are there."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text, self._num_shown = on_text, 0

    def show(self, text: str, complete: bool) -> None:
        """Take the whole answer so far."""
        ready = text if complete else text.rstrip("\ufffd")
        if len(ready) > self._num_shown:
            self._on_text(ready[self._num_shown :])
            self._num_shown = len(ready)

"""Constrained decoding: a trie of allowed answers, walked one token at a time."""

from collections.abc import Sequence


class Trie:
    """All token sequences of the allowed answers; every answer ends with the end token."""

    def __init__(self, sequences: Sequence[Sequence[int]]) -> None:
        self.root: dict[int, dict] = {}
        for sequence in sequences:
            node = self.root
            for token in sequence:
                node = node.setdefault(token, {})

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

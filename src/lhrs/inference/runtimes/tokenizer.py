"""The tokenizer interface of constraints by a tokenizer of transformers."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any


class TokenizerVocabulary:
    """Implements `lhrs.inference.decoding.Vocabulary`.

    A subclass sets `_tokenizer` and `eos_token_ids`, and `_num_tokens` where the model has more tokens than that.
    """

    eos_token_ids: tuple[int, ...]
    _tokenizer: Any
    _num_tokens: int | None = None

    def encode(self, text: str) -> list[int]:
        """See `Vocabulary.encode`."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[no-any-return]

    def decode(self, tokens: Sequence[int]) -> str:
        """See `Vocabulary.decode`."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)  # type: ignore[no-any-return]

    @cached_property
    def grammars(self) -> Any:
        """See `Vocabulary.grammars`."""
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self._tokenizer, n_vocab=self._num_tokens, eos_token=self.eos_token_ids[0])

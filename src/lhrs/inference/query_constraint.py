"""Constrained decoding of queries: well-formed text whose arguments are words of the question.

Tokens are followed through a grammar whose symbols are whole pieces of text: `count:`, a word of the question, ` |`,
` @`, a region. A word is encoded with a space before it, as in the text form of a query, whatever precedes it in the
question; so any tokenizer fits that does not merge across spaces.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lhrs.inference.decoding import Vocabulary
from lhrs.perception.query import INTENTS, MAX_CLAUSES, REGIONS, UNKNOWN, format_query

MAX_WORDS = 8
"""Maximum number of words of an argument."""
_FUNCTION_WORD_TEXT = (
    "a an the this that these those there here it they them its is are was were be been do does did has have had could "
    "would should what which where when who whose why how many much and or than of to in on at for from with by any "
    "some i you we he she me us my your our please if whether not as so"
)
_FUNCTION_WORDS = frozenset(_FUNCTION_WORD_TEXT.split())
"""Words that no argument begins or ends with."""
_WORD = re.compile(r"[^\W_]+(?:[-'\u2019&_][^\W_]+)*")


class _Place(NamedTuple):
    """A position in a query after a whole symbol."""

    num_clauses: int
    """Clauses begun."""
    intent: str = ""
    """Intent of the current clause; empty before the first."""
    num_arguments: int = 0
    word: int = -1
    """Last word of the question that was copied in this clause; -1 without any."""
    num_words: int = 0
    """Words of the current argument; 0 after a separator, or before the first argument."""
    region: int = 0
    """0 before, 1 after ` @`, 2 after the region."""
    separator: bool = False
    """Whether the last symbol was ` |`."""
    copied: frozenset[tuple[str, int]] = frozenset()
    """Intents with the words that their clauses copied; clauses of one intent do not repeat words."""


_Thread = tuple[tuple[int, ...], _Place]
"""Tokens that complete a symbol, and the place after it."""


class QueryConstraint:
    """Queries about a question, see `lhrs.perception.query`.

    Arguments are contiguous words of the question, in its order within a clause. They do not cross punctuation, and
    neither begin nor end with a function word.

    Args:
        question: the last message; earlier ones have no words to copy.
        vocabulary: of the model.
    """

    limit: int | None = 96

    def __init__(self, question: str, vocabulary: Vocabulary) -> None:
        self._vocabulary, self._ends = vocabulary, list(vocabulary.eos_token_ids)
        found = list(_WORD.finditer(question))
        self._words = [tuple(vocabulary.encode(f" {word[0]}")) for word in found]
        self._is_function = [word[0].lower() in _FUNCTION_WORDS for word in found]
        self._follows = [
            n > 0 and not question[found[n - 1].end() : word.start()].strip() for n, word in enumerate(found)
        ]
        self._intents = [{name: self._encode(f"{space}{name}:") for name in INTENTS} for space in ("", " ")]
        self._regions = [self._encode(f" {region}") for region in REGIONS]
        self._bar, self._at, self._semicolon = (self._encode(f" {mark}") for mark in "|@;")
        self._seen: list[int] = []
        self._threads: list[_Thread] = self._open([((), _Place(0))])

    def allowed(self, tokens: Sequence[int]) -> np.ndarray:
        """See `Constraint.allowed`."""
        self._follow(tokens)
        found = {rest[0] for rest, _ in self._threads if rest}
        if self._is_complete():
            found.update(self._ends)
        return np.array(sorted(found or self._ends))

    def forced(self, tokens: Sequence[int]) -> list[int]:
        """See `Constraint.forced`."""
        path: list[int] = []
        while len(allowed := self.allowed([*tokens, *path])) == 1 and allowed[0] not in self._ends:
            path.append(int(allowed[0]))
        return [*path, self._ends[0]] if set(allowed.tolist()) <= set(self._ends) else []

    def text(self, tokens: Sequence[int]) -> str:
        """See `Constraint.text`."""
        for length in range(len(tokens), 0, -1):
            self._follow(tokens[:length])
            if self._is_complete():
                return " ".join(self._vocabulary.decode(tokens[:length]).split())
        return format_query(UNKNOWN)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._vocabulary.encode(text))

    def _follow(self, tokens: Sequence[int]) -> None:
        tokens = list(tokens)
        if tokens[: len(self._seen)] != self._seen:
            self._seen, self._threads = [], self._open([((), _Place(0))])
        for token in tokens[len(self._seen) :]:
            self._threads = self._open([(rest[1:], place) for rest, place in self._threads if rest[:1] == (token,)])
        self._seen = tokens

    def _open(self, threads: list[_Thread]) -> list[_Thread]:
        """Add the symbols that may follow completed ones. Completed places stay, with no tokens left."""
        found = dict.fromkeys(threads)
        for rest, place in threads:
            if not rest:
                found.update(dict.fromkeys(self._next(place)))
        return list(found)

    def _is_complete(self) -> bool:
        return any(not rest and self._ends_clause(place) for rest, place in self._threads)

    def _next(self, place: _Place) -> Iterator[_Thread]:
        """Yield the symbols that may follow a place."""
        if not place.intent:
            for name, tokens in self._intents[place.num_clauses > 0].items():
                yield tokens, _Place(place.num_clauses + 1, name, copied=place.copied)
            return
        if place.region == 1:
            for tokens in self._regions:
                yield tokens, place._replace(region=2)
            return
        form, ends = INTENTS[place.intent], self._ends_argument(place)
        if place.region == 0:
            yield from self._next_words(place, max(form.num_arguments))
            if place.num_words and ends and place.num_arguments < max(form.num_arguments):
                yield self._bar, place._replace(num_words=0, separator=True)
            if form.region and place.num_arguments in form.num_arguments and ends:
                yield self._at, place._replace(region=1)
        if self._ends_clause(place) and place.num_clauses < MAX_CLAUSES and place.intent != "help":
            yield self._semicolon, _Place(place.num_clauses, copied=place.copied)

    def _next_words(self, place: _Place, most: int) -> Iterator[_Thread]:
        if place.num_words:
            n = place.word + 1
            if n < len(self._words) and self._follows[n] and place.num_words < MAX_WORDS:
                yield from self._copy(place, n, place.num_arguments)
        elif place.num_arguments < most:
            for n in range(place.word + 1, len(self._words)):
                if not self._is_function[n]:
                    yield from self._copy(place, n, place.num_arguments + 1)

    def _copy(self, place: _Place, n: int, num_arguments: int) -> Iterator[_Thread]:
        copied = (place.intent, n)
        if copied not in place.copied:
            yield (
                self._words[n],
                place._replace(
                    num_arguments=num_arguments,
                    word=n,
                    num_words=place.num_words + 1,
                    separator=False,
                    copied=place.copied | {copied},
                ),
            )

    def _ends_argument(self, place: _Place) -> bool:
        return not place.separator and not (place.num_words and self._is_function[place.word])

    def _ends_clause(self, place: _Place) -> bool:
        """Return whether a clause may end at a place."""
        if not place.intent or place.region == 1 or not self._ends_argument(place):
            return False
        form = INTENTS[place.intent]
        if place.num_arguments not in form.num_arguments:
            return False
        return place.region == 2 or place.num_arguments > 0 or not form.region_required

"""The table of land-use and land-cover words, `resources/land_words.yaml`, with an index of its phrases.

It is read from `land_words.json`, which `dev/compile_words.py` writes from the YAML file. That script and the tests
check it, so that it loads in a few milliseconds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Literal, Self

from lhrs.errors import DataError
from lhrs.perception.phrases import keys_of, singular, split_words
from lhrs.perception.vocabulary import COVER, OBJECTS, SCENES, TAGS


@dataclass(frozen=True)
class Concept:
    """What a word means, and what the model must see to say so."""

    words: tuple[str, ...]
    """Words and phrases for it, in addition to its name."""
    scenes: Mapping[str, float] = field(default_factory=dict)
    """How far an image of a scene class shows the concept as its main content, 0 to 1."""
    cover: Mapping[str, float] = field(default_factory=dict)
    """How far area of a land-cover class counts as the concept, 0 to 1."""
    tag: str | None = None
    """Tag that says that it is present somewhere."""
    object: str | None = None
    """Detected object that is an instance of it."""
    broader: tuple[str, ...] = ()
    """Names of the concepts that contain it."""
    evidence: Literal["none", "rest"] | None = None
    """`none`: the model cannot see it. `rest`: it is what no other label describes."""

    @property
    def is_taught(self) -> bool:
        """Whether the model can see it."""
        return self.evidence is None


@dataclass(frozen=True)
class WordTable:
    """All concepts, and how the words of a phrase are read."""

    concepts: Mapping[str, Concept]
    ambiguous: Mapping[str, tuple[str, ...]]
    """Words with several meanings, and the names of the concepts that they can mean."""
    spellings: Mapping[str, str]
    """Other spellings of single words."""
    modifiers: frozenset[str]
    """Words before a noun that do not change what it is."""
    tails: frozenset[str]
    """Nouns that may follow a noun and do not change what it is."""
    dependent_heads: frozenset[str]
    """Nouns that mean something else after an unknown word."""
    real_words: frozenset[str]
    """English words that are no typing errors."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the table with the content of `resources/land_words.yaml`.

        Raises:
            DataError: a key is unknown.
        """
        concepts = {}
        for name, links in data["concepts"].items():
            try:
                own = {"words": _split(links["words"]), "broader": tuple(links.get("broader", ()))}
                concepts[name] = Concept(**{**links, **own})
            except (KeyError, TypeError) as error:
                raise DataError(f"word table: {name!r} has wrong keys: {error}.") from None
        sets = {
            key: frozenset(_split(data.get(key, ""))) for key in ("modifiers", "tails", "dependent_heads", "real_words")
        }
        ambiguous = {word: tuple(meanings) for word, meanings in data.get("ambiguous", {}).items()}
        return cls(concepts, ambiguous, data.get("spellings", {}), **sets)

    @cached_property
    def index(self) -> Mapping[str, str]:
        """Names of concepts by key of each of their phrases, see `keys_of`."""
        return {key: name for name, phrase in self._phrases() for key in keys_of(_words(phrase))}

    @cached_property
    def ambiguous_index(self) -> Mapping[str, tuple[str, ...]]:
        """Meanings of ambiguous words by key."""
        return {key: meanings for word, meanings in self.ambiguous.items() for key in keys_of(_words(word))}

    @cached_property
    def known_words(self) -> frozenset[str]:
        """Words that are spelled right: those of the table, in the singular too, and other English ones."""
        words = {word for _, phrase in self._phrases() for word in _words(phrase)}
        words |= {word for phrase in self.ambiguous for word in _words(phrase)}
        words |= {singular(word) for word in words} | self.index.keys() | self.spellings.keys()
        return frozenset(words | self.modifiers | self.tails | self.real_words)

    @cached_property
    def corrections(self) -> Mapping[str, Sequence[str]]:
        """Words of five letters and more that a typing error is corrected to, by their first letter.

        They are the words of concepts that are taught, and the nouns that may follow them.
        """
        phrases = [_words(phrase) for name, phrase in self._phrases() if self.concepts[name].is_taught]
        words = {word for phrase in phrases for word in phrase} | {"".join(phrase) for phrase in phrases}
        words -= {word for word in self.modifiers if word not in self.index}
        words |= self.tails | self.spellings.keys()
        groups: dict[str, list[str]] = {}
        for word in sorted(words | {singular(word) for word in words}):
            if len(word) >= 5:
                groups.setdefault(word[0], []).append(word)
        return groups

    @cached_property
    def scene_weights(self) -> Mapping[str, Mapping[str, float]]:
        """Weights of scene classes by concept: at least those of each narrower concept."""
        weights: dict[str, dict[str, float]] = {name: dict(concept.scenes) for name, concept in self.concepts.items()}
        for name, concept in self.concepts.items():
            for other in self.broader_of(name):
                for scene, weight in concept.scenes.items():
                    weights[other][scene] = max(weight, weights[other].get(scene, 0.0))
        return weights

    def broader_of(self, name: str) -> frozenset[str]:
        """Return the names of all concepts that contain a concept, at any distance."""
        found: set[str] = set()
        todo = list(self.concepts[name].broader)
        while todo:
            if (other := todo.pop()) not in found:
                found.add(other)
                todo += self.concepts[other].broader
        return frozenset(found)

    def check(self) -> None:
        """Check that all names exist and that no phrase is listed twice.

        Raises:
            DataError: the table is wrong.
        """
        listed: dict[str, str] = {}
        for name, phrase in self._phrases():
            for key in keys_of(split_words(phrase, self.spellings)):
                if listed.setdefault(key, name) != name:
                    raise DataError(f"word table: {phrase!r} is listed under {listed[key]!r} and {name!r}.")
        if listed != self.index:
            raise DataError("word table: words must be lower case and in the spelling of the table.")
        for name, concept in self.concepts.items():
            if problem := self._problem(name, concept):
                raise DataError(f"word table: {name!r} {problem}.")
        for word, meanings in self.ambiguous.items():
            if unknown := set(meanings) - self.concepts.keys():
                raise DataError(f"word table: {word!r} can mean {min(unknown)!r}, which is no concept.")
            if any(key in self.index for key in keys_of(_words(word))):
                raise DataError(f"word table: {word!r} is ambiguous and is listed under a concept too.")

    def _problem(self, name: str, concept: Concept) -> str | None:
        links = ((concept.scenes, SCENES), (concept.cover, COVER), ((concept.tag,), TAGS), ((concept.object,), OBJECTS))
        for names, known in links:
            if unknown := [each for each in names if each is not None and each not in known]:
                return f"is linked to {unknown[0]!r}, which is none of {', '.join(known)}"
        if not all(0 < weight <= 1 for weight in (*concept.scenes.values(), *concept.cover.values())):
            return "has a weight that is not above 0 and at most 1"
        if concept.evidence not in (None, "none", "rest"):
            return f"has evidence {concept.evidence!r}, which is neither none nor rest"
        if any(each is not None for names, _ in links for each in names) == bool(concept.evidence):
            return "must have either links, 'evidence: none' or 'evidence: rest'"
        if wrong := [other for other in concept.broader if not self.concepts.get(other, concept).is_taught]:
            return f"has the broader concept {wrong[0]!r}, which is not taught"
        if wrong := [other for other in concept.broader if other not in self.concepts]:
            return f"has the broader concept {wrong[0]!r}, which does not exist"
        return "contains itself" if name in self.broader_of(name) else None

    def _phrases(self) -> Iterator[tuple[str, str]]:
        for name, concept in self.concepts.items():
            yield name, name
            for phrase in concept.words:
                yield name, phrase


@cache
def word_table() -> WordTable:
    """Return the table that comes with lhrs."""
    return WordTable.from_dict(json.loads((files("lhrs.resources") / "land_words.json").read_text(encoding="utf-8")))


def _split(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _words(phrase: str) -> list[str]:
    """Return the words of a phrase of the table, as `split_words` does, which reads any text and takes longer."""
    return [word for word in phrase.replace("-", " ").split() if word not in ("and", "or")]

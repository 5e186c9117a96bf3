"""Questions with the queries that they ask: training text of the language model of a perception model.

Templates have slots:

- `{x}`, `{y}`, `{z}`: nouns in any form; `{xs}`, `{ys}`, `{zs}`: plurals; `{one}`: the singular of x;
  `{a}`, `{b}`, `{c}`: x, y, z with an article.
- `{options}`: a list of options.
- `{where}`: "in the north"; `{region}`: "the north"; `{side of}`: "north of".
- `[...]`: an argument as it is.

Every sample depends only on (seed, index).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from lhrs.data.writers import write_samples
from lhrs.errors import ConfigError
from lhrs.instruct.question_bank import Noun, Pattern, Split, Words, patterns, region_phrase
from lhrs.instruct.wording import Part, add_place, insert_phrase, join, perturb
from lhrs.perception.query import MAX_CLAUSES, Clause, Query, format_query, parse_query
from lhrs.schema import Sample, Turn

SOURCE, LICENSE = "lhrs-queries", "Apache-2.0"
_FIRST: Mapping[str, float] = {
    "presence": 0.16, "count": 0.09, "locate": 0.09, "share": 0.1, "choose": 0.08, "more": 0.05, "class": 0.09,
    "caption": 0.05, "list": 0.05, "at": 0.06, "relation": 0.04, "compare": 0.05, "compound": 0.05, "first_turns": 0.02,
    "unanswerable": 0.12, "help": 0.03, "follow_ups": 0.14,
}  # fmt: skip
"""Probability of each file of the bank for a message without history."""
_LATER = {**_FIRST, "first_turns": 0.0, "follow_ups": 0.8, "later_turns": 0.05}
"""The same for a message with history."""
_JOINED = {name: _FIRST[name] for name in ("presence", "count", "locate", "share", "choose", "class", "caption", "at")}
_JOINED_PROBABILITY = 0.06
_AS_THEY_ARE = ("follow_ups", "first_turns", "later_turns", "unanswerable", "help")
"""Files whose messages are about no place."""
_CONNECTORS = (
    *(" and ", " and ", ", and ", "? ", "? and ", ". ", ". also, ", " and also ", ", also ", " plus ", "; ", " & "),
    *("\n", ". then ", ", then ", "? also ", ". and "),
)
_LISTS = (
    *((", ", ", "), (", ", " or "), (", ", ", or "), (", ", " and "), (" or ", " or "), (" / ", " / "), ("/", "/")),
    *((" | ", " | "), ("; ", "; "), (",", ","), ("\n", "\n"), (" - ", " - ")),
)
"""Separators of a list, and before its last item."""
_SLOT = re.compile(r"\{([^}]+)\}|\[([^\]]*)\]")
_NOUN_OF = {"x": "x", "xs": "x", "one": "x", "a": "x", "y": "y", "ys": "y", "b": "y", "z": "z", "zs": "z", "c": "z"}
_REGIONAL = frozenset(("presence", "count", "locate", "share", "choose", "more"))


def write_queries(
    out: Path, num: int, *, seed: int = 0, templates: Split = "train", nouns: Split = "train"
) -> Counter[str]:
    """Write `query_samples` to a file and return the number of last messages of each intent.

    Raises:
        ConfigError: `out` exists or has another suffix than .jsonl and .parquet.
    """
    if out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"--out {out} is neither .jsonl nor .parquet.")
    if out.exists():
        raise ConfigError(f"{out} exists already; name another file, or remove it.")
    samples = list(query_samples(num, seed, templates, nouns))
    write_samples(samples, out)
    return Counter(str(sample.task) for sample in samples)


def query_samples(
    num: int, seed: int = 0, templates: Split = "train", nouns: Split = "train", start: int = 0
) -> Iterator[Sample]:
    """Yield conversations whose assistant turns are queries.

    Args:
        num: Number of samples.
        seed: Of all random choices.
        templates: Wordings of the last message: those for training, or those held out for evaluation.
        nouns: Nouns of the last message.
        start: Index of the first sample.
    """
    maker = _QuestionMaker(templates, nouns)
    earlier = maker if (templates, nouns) == ("train", "train") else _QuestionMaker("train", "train")
    for index in range(start, start + num):
        rng = Random(f"queries:{seed}:{templates}:{nouns}:{index}")
        turns: list[Turn] = []
        num_earlier = rng.choices((0, 1, 2), (0.8, 0.15, 0.05))[0]
        for n in range(num_earlier + 1):
            last = n == num_earlier
            question, query = (maker if last else earlier).make(rng, has_history=n > 0)
            turns += [Turn(role="user", text=question), Turn(role="assistant", text=format_query(query))]
        task = "+".join(clause.intent for clause in query.clauses)
        yield Sample(id=f"{seed}-{index}", turns=turns, source=SOURCE, license=LICENSE, task=task)


class _QuestionMaker:
    """Makes questions and their queries."""

    def __init__(self, templates: Split, nouns: Split) -> None:
        self._split: Split = templates
        self._words = Words(nouns)

    def make(self, rng: Random, has_history: bool) -> tuple[str, Query]:
        """Return a question and its query."""
        if rng.random() < _JOINED_PROBABILITY:
            parts, pattern = self._joined(rng)
        else:
            name = self._file(rng, _LATER if has_history else _FIRST)
            parts, pattern = self._question(rng, name, "")
            if name not in _AS_THEY_ARE:
                parts, pattern = self._place(rng, parts, pattern)
        parts = perturb(parts, rng, self._split)
        return join(parts), _fill(pattern, parts)

    def _file(self, rng: Random, weights: Mapping[str, float]) -> str:
        names = [name for name in weights if patterns(name, self._split)]
        return rng.choices(names, [weights[name] for name in names])[0]

    def _question(self, rng: Random, name: str, prefix: str) -> tuple[list[Part], str]:
        """Return a question, and its query with the names of arguments, which begin with `prefix`."""
        known = patterns(name, self._split)
        pattern: Pattern = rng.choices(known, [len(pattern.templates) ** 0.6 for pattern in known])[0]
        return self._fill_template(rng, rng.choice(pattern.templates), pattern.query, prefix)

    def _place(self, rng: Random, parts: list[Part], pattern: str) -> tuple[list[Part], str]:
        """Ask about a region, or say that the image is meant."""
        intent = pattern.partition(":")[0]
        if intent in _REGIONAL and not re.search("[@;]", pattern) and rng.random() < 0.15:
            region, phrase = region_phrase(rng, "where")
            return insert_phrase(parts, phrase, rng), f"{pattern} @ {region}"
        return ([*parts], pattern) if "@" in pattern else (add_place(parts, rng, self._split), pattern)

    def _joined(self, rng: Random) -> tuple[list[Part], str]:
        first, asked = self._question(rng, self._file(rng, _JOINED), "first ")
        second, also = self._question(rng, self._file(rng, _JOINED), "second ")
        if asked.count(";") + also.count(";") + 2 > MAX_CLAUSES:
            return second, also
        end = first[-1]
        if end.argument is None:
            first[-1] = Part(end.text.rstrip("?.! "))
        return [*first, Part(rng.choice(_CONNECTORS)), *second], f"{asked} ; {also}"

    def _fill_template(self, rng: Random, template: str, query: str, prefix: str) -> tuple[list[Part], str]:
        nouns = {name: self._words.noun(rng) for name in "xyz"}
        if query.startswith("choose"):
            nouns |= self._choice_nouns(rng)
        region, parts, literals, at = "", list[Part](), list[str](), 0
        for slot in _SLOT.finditer(template):
            parts.append(Part(template[at : slot.start()]))
            at = slot.end()
            name, literal = slot[1], slot[2]
            if literal is not None:
                literals.append(f"<{prefix}literal{len(literals)}>")
                parts.append(Part(literal, literals[-1]))
            elif name == "options":
                options = self._options(rng, prefix)
                literals += [part.argument for part in options if part.argument]
                parts += options
            elif name in _NOUN_OF:
                parts += _noun_parts(rng, name, nouns[_NOUN_OF[name]], prefix)
            else:
                region, phrase = region_phrase(rng, name)
                parts.append(Part(phrase))
        parts.append(Part(template[at:]))
        query = re.sub(r"\{(region|side)\}", region, query)
        query = re.sub(r"\{([xyz])\}", rf"<{prefix}\1>", query)
        if "{options}" in query:
            query = query.replace("{options}", " | ".join(literals))
        elif literals:
            query = f"{query} {' | '.join(literals)}"
        return [part for part in parts if part.text], query

    def _choice_nouns(self, rng: Random) -> dict[str, Noun]:
        kind = rng.choice(("state", "state", "state", "singular", "plural"))
        chosen = [self._words.option(rng, kind) for _ in "xy"]
        while chosen[0] == chosen[1]:
            chosen[1] = self._words.option(rng, kind)
        return {name: Noun(word, word, kind == "singular") for name, word in zip("xy", chosen, strict=True)}

    def _options(self, rng: Random, prefix: str) -> list[Part]:
        kind = rng.choice(("state", "singular", "singular", "plural", "name"))
        options = list(dict.fromkeys(self._words.option(rng, kind) for _ in range(rng.choice((2, 3, 3, 4, 4, 5, 6)))))
        while len(options) < 2:
            options = list(dict.fromkeys([*options, self._words.option(rng, kind)]))
        between, before_last = rng.choice(_LISTS)
        parts: list[Part] = []
        for n, option in enumerate(options):
            if n:
                parts.append(Part(before_last if n == len(options) - 1 else between))
            parts.append(Part(option, f"<{prefix}option{n}>"))
        return parts


def _noun_parts(rng: Random, slot: str, noun: Noun, prefix: str) -> list[Part]:
    argument = f"<{prefix}{_NOUN_OF[slot]}>"
    if slot in ("a", "b", "c"):
        return [Part(noun.article), Part(noun.singular, argument)]
    if slot.endswith("s"):
        return [Part(noun.plural, argument)]
    if slot == "one":
        return [Part(noun.singular, argument)]
    return [Part(rng.choice((noun.singular, noun.plural)), argument)]


def _fill(pattern: str, parts: list[Part]) -> Query:
    """Return the query of a question: a pattern whose arguments are the texts of the question's parts."""
    texts: dict[str, str] = {}
    for part in parts:
        if part.argument is not None:
            texts.setdefault(part.argument, " ".join(part.text.split()))
    query = parse_query(pattern)
    return Query(tuple(Clause(c.intent, tuple(texts[name] for name in c.arguments), c.region) for c in query.clauses))

"""Queries: what a question asks, in a form that can be answered from the evidence of an image.

The text form is written by a language model. Clauses are joined by ` ; `, each `intent: argument | argument @ region`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lhrs.perception import vocabulary

REGIONS = tuple(vocabulary.REGIONS)
"""Parts of an image in reading order; north is the top."""
MAX_CLAUSES = 4
MAX_ARGUMENTS = 8


class IntentForm(NamedTuple):
    """What a clause of an intent may contain."""

    num_arguments: tuple[int, ...]
    """Allowed numbers of arguments."""
    region: bool
    """Whether it may have a region."""
    region_required: bool = False
    """Whether a clause without arguments needs a region."""


_ONE = (0, 1)
_SEVERAL = tuple(range(2, MAX_ARGUMENTS + 1))
INTENTS: dict[str, IntentForm] = {
    "class": IntentForm((0,), False),
    "caption": IntentForm((0,), False),
    "list": IntentForm((0,), False),
    "presence": IntentForm(_ONE, True),
    "count": IntentForm(_ONE, True),
    "locate": IntentForm(_ONE, True),
    "share": IntentForm(_ONE, True),
    "choose": IntentForm(_SEVERAL, True),
    "more": IntentForm(_SEVERAL, True),
    "at": IntentForm((0,), True, region_required=True),
    "relation": IntentForm((1,), True),
    "compare": IntentForm(_ONE, True),
    "confirm": IntentForm((0,), False),
    "why": IntentForm((0,), False),
    "follow": IntentForm(_ONE, True, region_required=True),
    "help": IntentForm((0,), False),
    "unknown": IntentForm(_ONE, False),
}
"""Intents by name.

`presence`, `count`, `locate` and `share` without an argument ask about the argument of the clause before, in this query
or in the history: "how many?", "is there a pond, and where is it?".
"""


@dataclass(frozen=True)
class Clause:
    """One question of a query."""

    intent: str
    """A key of `INTENTS`."""
    arguments: tuple[str, ...] = ()
    """Verbatim spans of the question, with its typing errors."""
    region: str | None = None
    """One of `REGIONS`; None is the whole image."""


@dataclass(frozen=True)
class Query:
    """All that one message asks, in its order."""

    clauses: tuple[Clause, ...]


UNKNOWN = Query((Clause("unknown"),))
"""The query of a message that cannot be answered from an image."""


def format_query(query: Query) -> str:
    """Return the text form of a query."""
    return " ; ".join(map(_format_clause, query.clauses))


def parse_query(text: str) -> Query:
    """Return the query of a text form; malformed text is `UNKNOWN`."""
    clauses = [_parse_clause(part) for part in text.split(";")]
    if len(clauses) > MAX_CLAUSES:
        return UNKNOWN
    valid = tuple(clause for clause in clauses if clause is not None)
    return Query(valid) if len(valid) == len(clauses) else UNKNOWN


def is_valid(clause: Clause) -> bool:
    """Return whether a clause has the form of its intent."""
    form = INTENTS.get(clause.intent)
    if form is None or len(clause.arguments) not in form.num_arguments or not all(clause.arguments):
        return False
    if clause.region is None:
        return bool(clause.arguments) or not form.region_required
    return form.region and clause.region in REGIONS


def _format_clause(clause: Clause) -> str:
    parts = [f"{clause.intent}:"]
    if clause.arguments:
        parts.append(" | ".join(clause.arguments))
    if clause.region is not None:
        parts.append(f"@ {clause.region}")
    return " ".join(parts)


def _parse_clause(text: str) -> Clause | None:
    intent, _, rest = text.partition(":")
    named, at, region = rest.partition("@")
    arguments = tuple(_words(named.split("|"))) if named.strip() else ()
    clause = Clause(intent.strip(), arguments, " ".join(region.split()) if at else None)
    return clause if is_valid(clause) else None


def _words(texts: Iterable[str]) -> Iterable[str]:
    return (" ".join(text.split()) for text in texts)

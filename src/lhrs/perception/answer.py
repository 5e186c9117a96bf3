"""Answers to queries from the evidence of an image.

All answers of an image come from the same evidence, so that a count, its boxes and a caption agree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lhrs.perception import describe
from lhrs.perception.evidence import Detection, Evidence
from lhrs.perception.measure import fraction, objects, places, position, presence
from lhrs.perception.query import Clause, Query
from lhrs.perception.score_labels import score_labels
from lhrs.perception.words import Match, find_concept

CANNOT_TELL = "I can't tell from this image."
HELP = (
    "I can name the kind of area, describe an image, say whether something is there, count buildings, trees and "
    "vehicles, find them, and say how much is water, trees, grass, crops, bare ground, buildings or paved."
)


@dataclass(frozen=True)
class Reply:
    """The answer to one clause."""

    text: str
    confidence: float | None = None
    """Probability that it is right, 0-1; None where there is no measure of it."""
    boxes: tuple[Detection, ...] = ()
    is_long: bool = False
    """A sentence, not a word or a number."""


def resolve(query: Query, history: Sequence[Query] = ()) -> Query:
    """Return a query whose clauses stand alone: `follow` and missing arguments are filled from what was asked before.

    Args:
        query: of the last message.
        history: resolved queries of the messages before it, in order.
    """
    asked = [clause for earlier in history for clause in earlier.clauses]
    clauses: list[Clause] = []
    for clause in query.clauses:
        before = next((c for c in reversed([*asked, *clauses]) if c.intent not in ("confirm", "why", "help")), None)
        if clause.intent == "follow" and before is not None:
            arguments = clause.arguments or before.arguments
            intent = before.intent
            if clause.arguments and intent in ("class", "caption", "list", "at", "unknown", "choose", "more", "help"):
                intent = "presence"
            clause = Clause(intent, arguments, clause.region or before.region)
        elif clause.intent == "follow" and clause.arguments:
            clause = Clause("presence", clause.arguments, clause.region)
        elif clause.intent in ("presence", "count", "locate", "share") and not clause.arguments and before is not None:
            clause = Clause(clause.intent, before.arguments[:1], clause.region or before.region)
        clauses.append(clause)
    return Query(tuple(clauses))


def answer_query(query: Query, images: Sequence[Evidence], history: Sequence[Query] = ()) -> Reply:
    """Return the answer to a resolved query; the answers to several clauses are joined.

    Args:
        query: of `resolve`.
        images: the evidence of each image; two of one place are compared.
        history: resolved queries of earlier messages about the same images.
    """
    asked = [clause for earlier in history for clause in earlier.clauses]
    replies: list[Reply] = []
    for clause in query.clauses:
        before = next((c for c in reversed(asked) if c.intent not in ("confirm", "why", "help")), None)
        replies.append(_answer(clause, images, before))
        asked.append(clause)
    if len(replies) == 1:
        return replies[0]
    known = [reply.confidence for reply in replies if reply.confidence is not None]
    boxes = tuple(box for reply in replies for box in reply.boxes)
    text = " ".join(describe.sentence(reply.text) for reply in replies)
    return Reply(text, min(known, default=None), boxes, is_long=True)


def _answer(clause: Clause, images: Sequence[Evidence], before: Clause | None) -> Reply:
    if clause.intent == "help":
        return Reply(HELP, is_long=True)
    if not images:
        return Reply("There is no image to look at.", is_long=True)
    if clause.intent in ("confirm", "why"):
        return _explain(clause, images, before)
    if clause.intent == "compare":
        return _compare(clause, images)
    if clause.intent not in _ANSWERS:
        return Reply(CANNOT_TELL, is_long=True)
    return _ANSWERS[clause.intent](clause, images[0])


def _class(clause: Clause, evidence: Evidence) -> Reply:
    best = max(evidence.scenes, key=lambda name: evidence.scenes[name])
    return Reply(describe.scene_name(best), evidence.scenes[best])


def _caption(clause: Clause, evidence: Evidence) -> Reply:
    return Reply(describe.caption(evidence), max(evidence.scenes.values()), is_long=True)


def _list(clause: Clause, evidence: Evidence) -> Reply:
    part = evidence.within(clause.region)
    parts = describe.contents(part, min_fraction=0.03)
    if not parts:
        return Reply(CANNOT_TELL, is_long=True)
    where = f" in the {clause.region}" if clause.region else ""
    return Reply(f"{describe.join(parts)}{where}.".capitalize(), is_long=True)


def _presence(clause: Clause, evidence: Evidence) -> Reply:
    match = _placed(clause)
    if isinstance(match, Reply):
        return match
    probability = presence(match.name, evidence.within(clause.region), clause.region is not None)
    return Reply("yes" if probability >= 0.5 else "no", max(probability, 1 - probability))


def _count(clause: Clause, evidence: Evidence) -> Reply:
    match = _placed(clause)
    if isinstance(match, Reply):
        return match
    part = evidence.within(clause.region)
    found = objects(match.concept, part)
    probability = presence(match.name, part, clause.region is not None)
    if found is None:
        if probability < 0.5:
            return Reply("0", 1 - probability)
        return Reply(f"I see {describe.thing(match)}, but I can only count {describe.COUNTED}.", is_long=True)
    if not found and probability >= 0.5:
        return Reply(f"I see {describe.thing(match)}, but too small to be counted here.", is_long=True)
    sure = sum(d.score for d in found) / len(found) if found else 1 - probability
    return Reply(str(len(found)), sure, tuple(found))


def _locate(clause: Clause, evidence: Evidence) -> Reply:
    match = _placed(clause)
    if isinstance(match, Reply):
        return match
    part = evidence.within(clause.region)
    found = [d for d in places(match.concept, evidence) if d.is_inside(clause.region)]
    if not found:
        probability = presence(match.name, part, clause.region is not None)
        if probability < 0.5:
            return Reply(f"I see no {clause.arguments[0]}.", 1 - probability, is_long=True)
        return Reply(f"I see {describe.thing(match)}, but I can't say where.", is_long=True)
    boxes = tuple(Detection(clause.arguments[0], d.box, d.score) for d in found)
    sure = sum(d.score for d in found) / len(found)
    where = list(dict.fromkeys(position(d.box) for d in found))
    if len(where) > 4:
        return Reply(f"{len(found)} places, all over the image.", sure, boxes, is_long=True)
    count = f"{len(found)} place{'s' * (len(found) > 1)}"
    return Reply(f"{count}: {describe.join(where)}.", sure, boxes, is_long=True)


def _share(clause: Clause, evidence: Evidence) -> Reply:
    match = _placed(clause)
    if isinstance(match, Reply):
        return match
    found = fraction(match.concept, evidence.within(clause.region))
    if found is None:
        return Reply(f"I can't measure the area of {clause.arguments[0]}.", is_long=True)
    return Reply(describe.percent(found))


def _choose(clause: Clause, evidence: Evidence) -> Reply:
    part = evidence.within(clause.region)
    scores = score_labels(clause.arguments, part)
    if not any(scores.probabilities):
        return Reply(CANNOT_TELL, is_long=True)
    best = max(range(len(clause.arguments)), key=lambda n: scores.probabilities[n])
    return Reply(clause.arguments[best], scores.probabilities[best])


def _more(clause: Clause, evidence: Evidence) -> Reply:
    part = evidence.within(clause.region)
    matches = [_placed(Clause("share", (argument,))) for argument in clause.arguments]
    for match in matches:
        if isinstance(match, Reply):
            return match
    named = [match for match in matches if isinstance(match, Match)]
    counts = [objects(match.concept, part) for match in named]
    areas = [fraction(match.concept, part) for match in named]
    if all(count is not None for count in counts):
        values = [float(len(count or ())) for count in counts]
    elif all(area is not None for area in areas):
        values = [area or 0.0 for area in areas]
    else:
        return Reply(CANNOT_TELL, is_long=True)
    order = sorted(range(len(values)), key=lambda n: -values[n])
    first, second = values[order[0]], values[order[1]]
    return Reply(clause.arguments[order[0]], None if first + second == 0 else first / (first + second))


def _relation(clause: Clause, evidence: Evidence) -> Reply:
    match = _placed(clause)
    if isinstance(match, Reply):
        return match
    found = places(match.concept, evidence)
    if not found or clause.region is None:
        return Reply(f"I see no {clause.arguments[0]}.", is_long=True)
    seen = describe.beside(evidence, found[0].box, clause.region)
    if not seen:
        return Reply(f"The {clause.arguments[0]} is at the edge of the image.", is_long=True)
    return Reply(f"{describe.join(seen)}.".capitalize(), is_long=True)


def _compare(clause: Clause, images: Sequence[Evidence]) -> Reply:
    if len(images) < 2:
        return Reply("I need two images to compare.", is_long=True)
    if not clause.arguments:
        return Reply(describe.changes(images[0], images[1]), is_long=True)
    match = _placed(clause)
    if isinstance(match, Reply):
        return match
    counts = [objects(match.concept, image) for image in images[:2]]
    areas = [fraction(match.concept, image) for image in images[:2]]
    if counts[0] is not None and counts[1] is not None and (counts[0] or counts[1]):
        return Reply(f"{len(counts[0])} in the first image, {len(counts[1])} in the second.", is_long=True)
    if areas[0] is None or areas[1] is None:
        return Reply(CANNOT_TELL, is_long=True)
    return Reply(f"{describe.percent(areas[0])} of the first image, {describe.percent(areas[1])} of the second.",
                 is_long=True)  # fmt: skip


def _explain(clause: Clause, images: Sequence[Evidence], before: Clause | None) -> Reply:
    """Answer "are you sure?" and "why?" about the last clause."""
    if before is None:
        return Reply(HELP, is_long=True)
    last = _answer(before, images, None)
    reasons = describe.reasons(before, images[0])
    if clause.intent == "why":
        return Reply(f"Because {reasons}." if reasons else CANNOT_TELL, last.confidence, is_long=True)
    if last.confidence is None:
        return Reply(f"It is an estimate: {last.text}", is_long=True)
    sure = "Yes" if last.confidence >= 0.8 else "Fairly" if last.confidence >= 0.6 else "No, that is a guess"
    because = f" {describe.sentence(reasons)}" if reasons else ""
    return Reply(f"{sure}: {last.text}, {describe.percent(last.confidence)}.{because}", last.confidence, is_long=True)


def _placed(clause: Clause) -> Match | Reply:
    """Return the concept of the first argument, or the reply that it is not known."""
    if not clause.arguments:
        return Reply(CANNOT_TELL, is_long=True)
    text = clause.arguments[0]
    match = find_concept(text)
    if match is None:
        return Reply(f"I can't tell: I don't know what {text!r} looks like from above.", is_long=True)
    if not match.is_taught:
        return Reply(f"I can't tell: I was not taught to see {text}.", is_long=True)
    return match


_ANSWERS: dict[str, Callable[[Clause, Evidence], Reply]] = {
    "class": _class, "caption": _caption, "list": _list, "at": _list, "presence": _presence, "count": _count,
    "locate": _locate, "share": _share, "choose": _choose, "more": _more, "relation": _relation,
}  # fmt: skip

"""Counts of what was left out of an input, by reason, so that nothing disappears without a word."""

from collections import Counter

_MAX_EXAMPLES = 3
"""Names kept per reason, for the message."""


class Dropped:
    """What a reader, a builder or a filter left out.

    Reasons are short lower-case phrases that complete "left out N: ...", such as "ways without nodes". A reader adds to
    it while it reads; a command prints `summary()` at the end and writes `to_dict()` into its manifest.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: object = None, count: int = 1) -> None:
        """Count `count` items left out for a reason; `example` names one of them."""
        if count <= 0:
            return
        self.counts[reason] += count
        names = self.examples.setdefault(reason, [])
        if example is not None and len(names) < _MAX_EXAMPLES and str(example) not in names:
            names.append(str(example))

    def update(self, other: "Dropped") -> None:
        """Add the counts and examples of another."""
        for reason, count in other.counts.items():
            self.add(reason, None, count)
            names = self.examples[reason]
            names += [name for name in other.examples[reason] if name not in names][: _MAX_EXAMPLES - len(names)]

    def __len__(self) -> int:
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, int]:
        """Return the counts by reason, the most frequent first, for a manifest."""
        return dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])))

    def summary(self) -> str:
        """Return a line such as "left out 3: 2 ways without nodes (w1, w2), 1 deleted objects (n5)", or ""."""
        if not len(self):
            return ""
        parts = []
        for reason, count in self.to_dict().items():
            names = self.examples.get(reason, [])
            more = ", ..." if names and count > len(names) else ""
            parts.append(f"{count:,} {reason}" + (f" ({', '.join(names)}{more})" if names else ""))
        return f"left out {len(self):,}: " + ", ".join(parts)

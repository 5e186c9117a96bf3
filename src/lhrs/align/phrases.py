"""English phrases for facts: numbers, articles, positions, fractions. Captions and claim checks share these tables."""

NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
PLACES = {
    "top left": ("in the top left", "in the top left corner", "in the upper left"),
    "top": ("at the top", "near the top edge", "in the upper part"),
    "top right": ("in the top right", "in the top right corner", "in the upper right"),
    "left": ("on the left", "on the left side", "in the left part"),
    "center": ("in the center", "in the middle", "near the center"),
    "right": ("on the right", "on the right side", "in the right part"),
    "bottom left": ("in the bottom left", "in the bottom left corner", "in the lower left"),
    "bottom": ("at the bottom", "near the bottom edge", "in the lower part"),
    "bottom right": ("in the bottom right", "in the bottom right corner", "in the lower right"),
}
"""Phrases for the position of a fact."""
DIRECTIONS = {
    "horizontal": ("running from left to right", "running across the image from left to right"),
    "vertical": ("running from top to bottom", "running up and down through the image"),
    "falling": ("running diagonally from the top left to the bottom right",),
    "rising": ("running diagonally from the bottom left to the top right",),
}
COMPASS = {
    "horizontal": ("running from east to west", "running from west to east"),
    "vertical": ("running from north to south", "running from south to north"),
    "falling": ("running from northwest to southeast",),
    "rising": ("running from southwest to northeast",),
}
"""Phrases for the orientation of lines if north is up."""
SHARES = (
    (0.85, 1.01, ("covering nearly the whole image", "filling almost the entire image")),
    (0.6, 0.85, ("covering most of the image", "taking up most of the image")),
    (0.42, 0.6, ("covering about half of the image", "taking up about half of the image")),
    (0.28, 0.42, ("covering about a third of the image",)),
    (0.18, 0.28, ("covering about a quarter of the image",)),
)
"""Lower bound, upper bound and phrases of area fractions."""
VOWELS = frozenset("aeiou")
_SOUNDS_LIKE_YOU = ("uni", "use", "eu")
_SILENT_H = ("hour", "honest", "heir")


def with_article(noun: str) -> str:
    """Return the noun with a or an."""
    first = noun.lower()
    vowel = (first[0] in VOWELS and not first.startswith(_SOUNDS_LIKE_YOU)) or first.startswith(_SILENT_H)
    return f"{'an' if vowel else 'a'} {noun}"


def spell_number(count: int) -> str:
    """Return a count in words up to twelve, in digits beyond."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def join_words(parts: list[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def to_sentence(text: str) -> str:
    """Return the text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."

"""How a scene is cut: windows that a model sees, and cores that share the scene among them without gap or overlap."""

from dataclasses import dataclass

Rect = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the scene."""


@dataclass(frozen=True)
class SceneWindow:
    """One window."""

    number: int
    """Row by row from the top left."""
    window: Rect
    """What the model sees."""
    core: Rect
    """The part of the scene that only this window answers for."""
    inner: tuple[bool, bool, bool, bool]
    """Whether the scene goes on beyond the window's left, top, right, bottom: an object there may be cut."""


def cut(width: int, height: int, side: int, overlap: int = 0) -> list[SceneWindow]:
    """Return windows over all of a scene, row by row.

    The last of each row and column ends with the scene, overlapping the one before by as much as that takes. Cores meet
    in the middle of the overlap asked for and have the same size but for the first and last.

    Args:
        width: of the scene, in pixels.
        height: of the scene, in pixels.
        side: of a window, in pixels of the scene.
        overlap: of windows next to each other, less than `side`.
    """
    across, down = _spans(width, side, overlap), _spans(height, side, overlap)
    found: list[SceneWindow] = []
    for y0, y1, top, bottom in down:
        for x0, x1, left, right in across:
            inner = (x0 > 0, y0 > 0, x1 < width, y1 < height)
            window, core = (x0, y0, x1 - x0, y1 - y0), (left, top, right - left, bottom - top)
            found.append(SceneWindow(len(found), window, core, inner))
    return found


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Return begin and end of each window along a side of the scene, and of its core."""
    if side >= length:
        return [(0, length, 0, length)]
    begins = [*range(0, length - side, side - overlap), length - side]
    seams = [0, *(begin + overlap // 2 for begin in begins[1:-1]), begins[-2] + side - (overlap - overlap // 2), length]
    return [(b, b + side, seams[n], seams[n + 1]) for n, b in enumerate(begins)]

"""Summary of a scene's answers."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.scene.result import UNCHANGED, Result
from lhrs.scene.window_inference import SceneQuery

AREAS = ("classify", "change", "vqa")
"""Tasks whose answers are summarized by area."""
_LISTED = 20


def summarize(result: Result, query: SceneQuery, km2: np.ndarray) -> dict[str, Any]:
    """Return statistics and a one-line answer for a scene.

    Args:
        result: the answers.
        query: the question.
        km2: area of each window's core; it is multiplied by the window's fraction of valid pixels.
    """
    rows = result.rows
    areas = km2 * np.array([row["valid_fraction"] for row in rows])
    is_answered = np.array([row["answer"] is not None for row in rows])
    summary: dict[str, Any] = {
        "windows": len(rows), "answered": int(is_answered.sum()), "area_km2": round(float(areas.sum()), 6),
        "out_of_distribution": int(sum(bool(row["out_of_distribution"]) for row in rows)),
    }  # fmt: skip
    if query.kind in AREAS:
        answers = [_answer(row) for row in rows]
        by: dict[str, float] = defaultdict(float)
        for answer, area in zip(answers, areas.tolist(), strict=True):
            if answer is not None:
                by[answer] += area
        ranked = sorted(by.items(), key=lambda item: (-item[1], item[0]))
        summary["by_answer_km2"] = {name: round(area, 6) for name, area in ranked[:_LISTED]}
        total = sum(by.values()) or 1.0
        parts = [f"{name} {area / total:.0%} ({_km2(area)})" for name, area in ranked[:5]]
        summary["answer"] = ", ".join(parts) + (f" and {len(ranked) - 5} more" if len(ranked) > 5 else "")
    elif query.kind == "count":
        counted = [row for row in rows if row["answer"] is not None and row["answer"].isdecimal()]
        # Objects in overlaps are counted twice: each count is scaled by the fraction of the window that is its core.
        count = round(sum(int(row["answer"]) * _area(row["core"]) / _area(row["window"]) for row in counted))
        summary |= {"count": count, "not_numbers": int(is_answered.sum()) - len(counted)}
        summary["answer"] = f"{query.target or 'buildings'}: {count:,} on {_km2(summary['area_km2'])}"
    elif result.objects is not None:
        summary["objects"] = len(result.objects.boxes)
        summary["answer"] = f"{query.target}: {summary['objects']:,} on {_km2(summary['area_km2'])}"
    else:
        summary["answer"] = f"{summary['answered']:,} captions on {_km2(summary['area_km2'])}"
    if not is_answered.any():
        summary["answer"] = "nothing: no window has enough data"
    return summary


def _answer(row: dict[str, Any]) -> str | None:
    if row["answer"] is None or row["answer_before"] is None:
        return row["answer"]  # type: ignore[no-any-return]
    return UNCHANGED if row["answer"] == row["answer_before"] else f"{row['answer_before']} to {row['answer']}"


def _area(rect: Sequence[int]) -> int:
    return rect[2] * rect[3]


def _km2(area: float) -> str:
    return f"{area:,.0f} km2" if area >= 100 else f"{area:.3g} km2"

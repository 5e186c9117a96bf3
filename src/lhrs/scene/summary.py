"""One answer for a whole scene."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.scene.result import UNCHANGED, Result
from lhrs.scene.window_inference import SceneQuery

AREAS = ("classify", "change", "vqa")
"""Tasks whose answers have areas."""
_LISTED = 20


def summarise(result: Result, asking: SceneQuery, km2: np.ndarray) -> dict[str, Any]:
    """Return numbers and a sentence about a scene.

    Args:
        result: the answers.
        asking: what was asked.
        km2: area of each window's core; where there is no data it is left out by its share.
    """
    rows = result.rows
    areas = km2 * np.array([row["data_share"] for row in rows])
    asked = np.array([row["answer"] is not None for row in rows])
    found: dict[str, Any] = {
        "windows": len(rows), "asked": int(asked.sum()), "area_km2": round(float(areas.sum()), 6),
        "out_of_distribution": int(sum(bool(row["out_of_distribution"]) for row in rows)),
    }  # fmt: skip
    if asking.kind in AREAS:
        said = [_said(row) for row in rows]
        by: dict[str, float] = defaultdict(float)
        for answer, area in zip(said, areas.tolist(), strict=True):
            if answer is not None:
                by[answer] += area
        ranked = sorted(by.items(), key=lambda item: (-item[1], item[0]))
        found["by_answer_km2"] = {name: round(area, 6) for name, area in ranked[:_LISTED]}
        total = sum(by.values()) or 1.0
        parts = [f"{name} {area / total:.0%} ({_km2(area)})" for name, area in ranked[:5]]
        found["answer"] = ", ".join(parts) + (f" and {len(ranked) - 5} more" if len(ranked) > 5 else "")
    elif asking.kind == "count":
        counted = [row for row in rows if row["answer"] is not None and row["answer"].isdecimal()]
        # What two windows see is counted in both: each answers for its core's share of what it saw.
        count = round(sum(int(row["answer"]) * _area(row["core"]) / _area(row["window"]) for row in counted))
        found |= {"count": count, "not_numbers": int(asked.sum()) - len(counted)}
        found["answer"] = f"{asking.words or 'buildings'}: {count:,} on {_km2(found['area_km2'])}"
    elif result.objects is not None:
        found["objects"] = len(result.objects.boxes)
        found["answer"] = f"{asking.words}: {found['objects']:,} on {_km2(found['area_km2'])}"
    else:
        found["answer"] = f"{found['asked']:,} captions on {_km2(found['area_km2'])}"
    if not asked.any():
        found["answer"] = "nothing: no window has enough data"
    return found


def _said(row: dict[str, Any]) -> str | None:
    if row["answer"] is None or row["earlier"] is None:
        return row["answer"]  # type: ignore[no-any-return]
    return UNCHANGED if row["answer"] == row["earlier"] else f"{row['earlier']} to {row['answer']}"


def _area(rect: Sequence[int]) -> int:
    return rect[2] * rect[3]


def _km2(area: float) -> str:
    return f"{area:,.0f} km2" if area >= 100 else f"{area:.3g} km2"

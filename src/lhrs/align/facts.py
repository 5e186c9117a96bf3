"""Facts of each footprint: one fact per kind of feature, traceable to OSM ids.

A fact counts all OpenStreetMap objects of its kind inside the footprint. It also counts those that are visible at the
ground sampling distance of the image. Captions describe visible objects only. No fact states that a kind is absent: the
map may be incomplete.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely

from lhrs.align.clip import ClippedFeatures, parent_kinds
from lhrs.align.footprints import Footprint
from lhrs.align.tags import tag_table

MIN_SIDE_PX = 3.0
"""Minimum square root of the area of a visible area; its box must be at least half as wide."""
MIN_WIDTH_PX = 0.7
"""Minimum width of a visible line. Long lines are visible even if narrower than a pixel."""
MIN_LENGTH_PX = 8.0
MIN_POINT_PX = 2.5
_SMALL = 0.55
"""Largest fraction of the image sides that objects with a position may span."""
_STRAIGHT = 0.8
"""Minimum agreement of the segments of a line that has an orientation."""
_LARGEST = 4
"""Number of kinds per footprint between which spatial relations are computed."""
_NEAR_PX, _NEAR_M = 3.0, 8.0

ORIENTATIONS = ("horizontal", "falling", "vertical", "rising")
POSITIONS = (
    ("top left", "top", "top right"), ("left", "center", "right"), ("bottom left", "bottom", "bottom right"),
)  # fmt: skip
"""Names of the ninths of an image, by row and column."""
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")


@dataclass
class Relation:
    """Spatial relation of the largest object of a kind to the largest object of another kind."""

    relation: str
    """`beside`, `inside` or `crosses`."""
    kind: str


@dataclass
class Fact:
    """Fact about one kind of feature in one footprint."""

    kind: str
    group: str
    parent: str | None
    """Parent kind: `building` for churches, which also count as buildings."""
    visible: bool
    """Whether any object of the kind is visible."""
    count: int
    """Number of OpenStreetMap objects that intersect the footprint. A road or river consists of many objects."""
    num_visible: int
    """Number of these objects that are large enough to be visible."""
    area_fraction: float
    """Fraction of the image that the areas cover; overlaps count once."""
    area_m2: float
    length_m: float
    """Total length of lines in meters."""
    largest_area_fraction: float
    """Area fraction of the largest object."""
    position: str | None
    """`top left`, `top`, ..., `center`, if all visible objects are within about half the image."""
    quadrants: list[str]
    """Quadrants that contain at least a fifth of the kind."""
    orientation: str | None
    """Orientation of lines in the image: `horizontal`, `vertical`, `falling` (towards the bottom right), `rising`."""
    relations: list[Relation] = field(default_factory=list)
    osm_ids: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    """xyxy in pixels, clipped to the image; in the order of `osm_ids`."""
    object_visible_fraction: list[float] = field(default_factory=list)
    """Fraction of each object that is inside the footprint."""
    object_visible: list[bool] = field(default_factory=list)
    """Whether each object is large enough to be visible."""


def extract_facts(footprints: Sequence[Footprint], pieces: ClippedFeatures, ids: Sequence[str]) -> list[list[Fact]]:
    """Return the facts of each footprint, the most relevant first.

    Args:
        footprints: footprints of the block.
        pieces: clipped features.
        ids: ids of the features.
    """
    facts_of: list[list[Fact]] = [[] for _ in footprints]
    if not len(pieces.footprint):
        return facts_of
    size = np.array([[f.width, f.height] for f in footprints], float)
    gsd_m = np.array([f.gsd_m for f in footprints])
    table = tag_table().kinds
    widths = np.array([table[name].width_m for name in pieces.kinds])[pieces.kind]
    is_visible = _find_visible(pieces, widths / gsd_m[pieces.footprint])
    names = list(pieces.kinds)
    parents = parent_kinds(pieces.kinds)
    names += sorted({p for p in parents if p is not None} - set(names))
    parent = np.array([-1 if p is None else names.index(p) for p in parents])[pieces.kind]
    # A church adds one row to churches and one row to buildings.
    rows = np.concatenate([np.arange(len(parent)), np.flatnonzero(parent >= 0)])
    kinds = np.concatenate([pieces.kind, parent[parent >= 0]])
    order = np.lexsort((rows, kinds, pieces.footprint[rows]))
    rows, kinds = rows[order], kinds[order]
    owners = pieces.footprint[rows]
    starts = np.flatnonzero(np.r_[True, (owners[1:] != owners[:-1]) | (kinds[1:] != kinds[:-1])])
    overlapping = _overlapping(pieces)
    counts = np.diff(np.r_[starts, len(rows)])
    area, visible = pieces.area_px[rows], is_visible[rows]
    num_shown = np.add.reduceat(visible.astype(int), starts)
    # If no object of a kind is visible, the fact describes the invisible objects.
    used = visible | (np.repeat(num_shown, counts) == 0)
    twice = overlapping[rows]
    sums = np.add.reduceat(np.where(twice, 0.0, area), starts)
    for n in np.flatnonzero(np.logical_or.reduceat(twice, starts)):
        mine = rows[starts[n] : starts[n] + counts[n]]
        sums[n] += shapely.union_all(pieces.shape[mine[overlapping[mine]]]).area * pieces.scale[owners[starts[n]]] ** 2
    owner_of, kind_of, total = owners[starts], kinds[starts], size.prod(1)
    shares = (sums / total[owner_of]).clip(max=1)
    largest = np.maximum.reduceat(area, starts) / total[owner_of]
    length_m = np.add.reduceat(pieces.length_px[rows], starts) * gsd_m[owner_of]
    area_m2 = sums * gsd_m[owner_of] ** 2
    weight = (area + pieces.length_px[rows] + 1e-6) * used
    boxes = pieces.box[rows] / np.tile(size[owners], 2)
    positions = _positions(pieces.center[rows] / size[owners], boxes, weight, used, starts)
    quadrants = _quadrants(boxes, weight, starts)
    orientations = _orientations(pieces.orientation[rows] * used[:, None], pieces.length_px[rows] * used, starts)
    all_ids = [ids[n] for n in pieces.feature[rows].tolist()]
    all_boxes, all_inside, all_shown = (
        v.tolist() for v in (pieces.box[rows].round(2), pieces.inside[rows].round(4), visible)
    )
    columns: tuple = (
        starts, counts, owner_of, kind_of, num_shown, shares.round(6), area_m2.round(2), length_m.round(2),
        largest.round(6), positions, quadrants, orientations,
    )  # fmt: skip
    for start, count, owner, kind_index, num, area_fraction, m2, m, most, position, held, orientation in zip(
        *(column.tolist() if isinstance(column, np.ndarray) else column for column in columns), strict=True
    ):
        kind, part = table[names[kind_index]], slice(start, start + count)
        facts_of[owner].append(
            Fact(
                kind.name, kind.group, kind.parent, num > 0, count, num, area_fraction, m2, m, most, position, held,
                orientation, [], all_ids[part], all_boxes[part], all_inside[part], all_shown[part],
            )
        )  # fmt: skip
    for owner, facts in enumerate(facts_of):
        facts.sort(key=lambda fact: (-_weight(fact, gsd_m[owner], total[owner]), fact.kind))
    _relate(facts_of, pieces, is_visible, names, gsd_m)
    return facts_of


def _find_visible(pieces: ClippedFeatures, width_px: np.ndarray) -> np.ndarray:
    side = (pieces.box[:, 2:] - pieces.box[:, :2]).min(1)
    as_area = (np.sqrt(pieces.area_px) >= MIN_SIDE_PX) & (side >= MIN_SIDE_PX / 2)
    as_line = (width_px >= MIN_WIDTH_PX) & (pieces.length_px >= MIN_LENGTH_PX)
    return np.select([pieces.dimension == 2, pieces.dimension == 1], [as_area, as_line], width_px >= MIN_POINT_PX)


def _overlapping(pieces: ClippedFeatures) -> np.ndarray:
    """Return for each clipped shape whether an area of its kind or parent kind overlaps it in the same footprint."""
    overlaps = np.zeros(len(pieces.shape), bool)
    areas = np.flatnonzero(pieces.dimension == 2)
    if len(areas) < 2:
        return overlaps
    parents = parent_kinds(pieces.kinds)
    root = np.array([pieces.kinds.index(p) if p in pieces.kinds else n for n, p in enumerate(parents)])
    first, second = areas[shapely.STRtree(pieces.shape[areas]).query(pieces.shape[areas])]
    # Footprints may overlap. A copy of a shape in another footprint is not an overlap.
    kin = (first < second) & (pieces.footprint[first] == pieces.footprint[second])
    kin &= root[pieces.kind[first]] == root[pieces.kind[second]]
    first, second = first[kin], second[kin]
    kin = ~shapely.touches(pieces.shape[first], pieces.shape[second]) & shapely.intersects(
        pieces.shape[first], pieces.shape[second]
    )
    overlaps[first[kin]] = overlaps[second[kin]] = True
    return overlaps


def _weight(fact: Fact, gsd_m: float, pixels: float) -> float:
    """Return the relevance of a fact in an image: visible kinds first, then by area."""
    line = fact.length_m * tag_table().kinds[fact.kind].width_m / gsd_m**2 / pixels
    return fact.visible * 10 + fact.area_fraction + 3 * line + 0.02 * (fact.num_visible > 0)


def _positions(
    center: np.ndarray, box: np.ndarray, weight: np.ndarray, used: np.ndarray, starts: np.ndarray
) -> list[str | None]:
    inf = np.where(used, 0.0, np.inf)[:, None]
    low = np.minimum.reduceat(box[:, :2] + inf, starts)
    high = np.maximum.reduceat(box[:, 2:] - inf, starts)
    middle = np.add.reduceat(center * weight[:, None], starts) / np.add.reduceat(weight, starts)[:, None]
    ninths = (middle * 3).astype(int).clip(0, 2).tolist()
    small = np.all(high - low <= _SMALL, axis=1).tolist()
    return [POSITIONS[y][x] if is_small else None for (x, y), is_small in zip(ninths, small, strict=True)]


def _quadrants(box: np.ndarray, weight: np.ndarray, starts: np.ndarray) -> list[list[str]]:
    """Return the quadrants of each kind. The weight of an object is split among quadrants like the area of its box."""
    sides = np.maximum(box[:, 2:] - box[:, :2], 1e-9)
    left, top = ((0.5 - box[:, :2]) / sides).clip(0, 1).T
    parts = np.stack([weight * x * y for y in (top, 1 - top) for x in (left, 1 - left)], 1)
    held = np.add.reduceat(parts, starts) >= 0.2 * np.add.reduceat(weight, starts)[:, None]
    return [[name for name, has in zip(QUADRANTS, row, strict=True) if has] for row in held.tolist()]


def _orientations(orientation: np.ndarray, length: np.ndarray, starts: np.ndarray) -> list[str | None]:
    total = np.add.reduceat(length, starts)
    cos, sin = np.add.reduceat(orientation, starts).T
    straight: np.ndarray = (total > 0) & (np.hypot(cos, sin) >= _STRAIGHT * total)
    octant = ((np.degrees(np.arctan2(sin, cos)) / 2 % 180 + 22.5) // 45).astype(int) % 4
    return [
        ORIENTATIONS[n] if is_straight else None
        for n, is_straight in zip(octant.tolist(), straight.tolist(), strict=True)
    ]


def _relate(
    facts_of: list[list[Fact]], pieces: ClippedFeatures, is_visible: np.ndarray, names: list[str], gsd_m: np.ndarray
) -> None:
    """Add relations between the largest objects of the most relevant kinds of each footprint."""
    index = {name: n for n, name in enumerate(names)}
    parents = set(filter(None, parent_kinds(pieces.kinds)))
    size = np.where(pieces.dimension == 2, pieces.area_px, pieces.length_px) * is_visible
    order = np.lexsort((-size, pieces.kind, pieces.footprint))
    first: dict[tuple[int, int], int] = {}
    for row in order.tolist():
        first.setdefault((int(pieces.footprint[row]), int(pieces.kind[row])), row)
    one: list[tuple[Fact, int]] = []
    two: list[tuple[Fact, int]] = []
    for owner, facts in enumerate(facts_of):
        rows = [
            (fact, first[owner, index[fact.kind]])
            for fact in facts
            if fact.visible and (fact.kind not in parents or fact.kind == "building")
            if (owner, index[fact.kind]) in first and pieces.dimension[first[owner, index[fact.kind]]] > 0
        ][:_LARGEST]  # fmt: skip
        for n, a in enumerate(rows):
            for b in rows[n + 1 :]:
                one.append(a)
                two.append(b)
    if not one:
        return
    a_rows, b_rows = (np.array([row for _, row in side]) for side in (one, two))
    a, b = pieces.shape[a_rows], pieces.shape[b_rows]
    owners = pieces.footprint[a_rows]
    near = np.maximum(_NEAR_PX / pieces.scale[owners], _NEAR_M / (gsd_m[owners] * pieces.scale[owners]))
    gap = shapely.distance(a, b)
    close = np.flatnonzero(gap <= near)
    a, b, gap = a[close], b[close], gap[close]
    crossing = shapely.crosses(a, b)
    common = shapely.intersection(a, b)
    areas = np.stack([shapely.area(v) for v in (a, b, common)], 1).tolist()
    lengths = np.stack([shapely.length(v) for v in (a, b, common)], 1).tolist()
    dimensions = np.stack([pieces.dimension[a_rows[close]], pieces.dimension[b_rows[close]]], 1).tolist()
    for n, at in enumerate(close.tolist()):
        fact_a, fact_b = one[at][0], two[at][0]
        dim_a, dim_b = dimensions[n]
        area_a, area_b, area = areas[n]
        if gap[n] > 0:
            fact_b.relations.append(Relation("beside", fact_a.kind))
        elif dim_a == dim_b == 2:
            inner, outer = (fact_a, fact_b) if area_a < area_b else (fact_b, fact_a)
            if area > 0.8 * min(area_a, area_b):
                inner.relations.append(Relation("inside", outer.kind))
            elif area < 0.1 * min(area_a, area_b):
                fact_b.relations.append(Relation("beside", fact_a.kind))
        elif dim_a == dim_b == 1:
            if crossing[n]:
                fact_b.relations.append(Relation("crosses", fact_a.kind))
        else:
            line, area_fact, line_index = (fact_a, fact_b, 0) if dim_a == 1 else (fact_b, fact_a, 1)
            through = lengths[n][2] > 0.1 * lengths[n][line_index]
            line.relations.append(Relation("crosses" if through else "beside", area_fact.kind))

"""HTML report of a curation: counts, score histograms, best and worst samples, and dropped samples per filter."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.curate.filters import REASONS, FilterDecision
from lhrs.curate.records import CurationRecord
from lhrs.data.dataset import Dataset
from lhrs.data.visualize import draw_sample
from lhrs.errors import DataError
from lhrs.schema import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUM_SHOWN = 8
"""Number of examples on a sheet, each with a different image."""
_SIDE = 256
_LONGEST = 420
_TEST_SET = ("leak", "ground")
_NAMES = {
    "score": "score: mean rank of the others",
    "alignment": "image-text alignment (cosine)",
    "fact_coverage": "fact coverage",
    "fact_precision": "fact precision",
    "readability": "readability",
    "specificity_bits": "specificity (bits)",
    "sharpness": "sharpness (variance of Laplacian)",
    "nodata_fraction": "fraction without data",
    "cloud_fraction": "fraction under clouds",
}
_STYLE = (
    "body{font:15px system-ui;margin:1.5rem auto;max-width:1500px;padding:0 1rem;background:#fff;color:#1c1c1c}"
    "h2{margin:2.2rem 0 .3rem}table{border-collapse:collapse}td,th{padding:.15rem .9rem .15rem 0;text-align:left;"
    "vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}.plots img{max-width:100%}"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:1.2rem 1rem}"
    ".pairs{grid-template-columns:repeat(auto-fill,minmax(540px,1fr))}figure{margin:0}"
    ".images{display:flex;gap:6px}.images img{width:256px;height:auto;align-self:flex-start}"
    "h3{font-size:.85rem;margin:.3rem 0;overflow-wrap:anywhere}p{margin:.2rem 0}small{color:#666;display:block}"
)


def write_report(
    dataset: Dataset,
    records: Sequence[CurationRecord],
    scores: dict[str, np.ndarray],
    decisions: Sequence[FilterDecision],
    test: Sequence[CurationRecord],
    curated: dict[str, Any],
    path: Path,
) -> None:
    """Write a self-contained page."""
    reasons = [decision.reason for decision in decisions]
    settings = "".join(f"<tr><th>{_text(key)}<td>{_text(value)}" for key, value in curated["settings"].items())
    counts = f'<tr><th>accepted<td class="n">{curated["num_accepted"]:,}<td>' + "".join(
        f'<tr><th>{reason}<td class="n">{count:,}<td>{REASONS[reason]}' for reason, count in curated["dropped"].items()
    )
    sheets = "".join(_sheets(dataset, records, scores, decisions, test))
    name = f"{_text(dataset.root.name)}: {curated['num_accepted']:,} of {curated['num_samples']:,} samples kept"
    write_atomic(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style><h1>{name}</h1><table>{counts}</table>"
        f'<h2>Scores</h2><p>Kept samples in color, others in gray.</p><div class="plots">'
        f'<img alt="histograms of scores" src="{_plot(_histograms(scores, reasons))}"></div>'
        f"{sheets}<h2>Settings</h2><table>{settings}</table></html>\n",
    )


def _text(value: object) -> str:
    return html.escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _histograms(scores: dict[str, np.ndarray], reasons: Sequence[str | None]) -> "Figure":
    from matplotlib.figure import Figure

    names = [name for name in _NAMES if name in scores and np.isfinite(scores[name]).any()]
    kept = np.array([reason is None for reason in reasons])
    columns = 3
    rows = max(1, -(-len(names) // columns))
    figure = Figure((13, 2.6 * rows), dpi=90, layout="constrained")
    for n, name in enumerate(names):
        values = scores[name]
        known = np.isfinite(values)
        axes = figure.add_subplot(rows, columns, n + 1)
        # A few images are far sharper than the others and would compress the histogram into one bar.
        top = float(np.quantile(values[known], 0.99)) if name == "sharpness" else float(values[known].max())
        low = min(0.0, float(values[known].min())) if name != "alignment" else float(values[known].min())
        span = (low, top if top > low else low + 1)
        shown = [np.clip(values[known & chosen], *span) for chosen in (kept, ~kept)]
        axes.hist(shown, bins=40, range=span, stacked=True, color=["#1b7f79", "#b9bcc0"])
        axes.set_title(_NAMES[name], fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _plot(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _sheets(
    dataset: Dataset,
    records: Sequence[CurationRecord],
    scores: dict[str, np.ndarray],
    decisions: Sequence[FilterDecision],
    test: Sequence[CurationRecord],
) -> Iterator[str]:
    def card(n: int) -> str:
        return _card(
            dataset[n], records, {name: float(values[n]) for name, values in scores.items()}, decisions[n], test
        )

    ranked = [n for n, decision in enumerate(decisions) if decision.reason is None]
    ranked.sort(key=lambda n: (-np.nan_to_num(scores["score"][n], nan=-1.0), n))
    best = _one_each(ranked, records)[:_NUM_SHOWN]
    worst = _one_each([n for n in reversed(ranked) if n not in best], records)[:_NUM_SHOWN]
    yield _sheet("The best", "", [card(n) for n in best])
    if worst:
        yield _sheet("The worst of those kept", "", [card(n) for n in worst])
    for reason, meaning in REASONS.items():
        removed = [n for n, decision in enumerate(decisions) if decision.reason == reason]
        if removed:
            different = _one_each(removed, records)
            num = min(_NUM_SHOWN, len(different))
            cards = [card(different[k * len(different) // num]) for k in range(num)]
            yield _sheet(f"Left out: {reason}", f"{len(removed):,} left out: {meaning}.", cards)


def _one_each(numbers: Sequence[int], records: Sequence[CurationRecord]) -> list[int]:
    """Return the first sample of each set of images, in order."""
    first: dict[tuple[str, ...], int] = {}
    for n in numbers:
        first.setdefault(records[n].images, n)
    return list(first.values())


def _sheet(title: str, description: str, cards: Sequence[str]) -> str:
    pairs = " pairs" if any("what stays" in card or "the test set" in card for card in cards) else ""
    return f'<h2>{title}</h2><p>{description}</p><div class="cards{pairs}">{"".join(cards)}</div>'


def _card(
    sample: Sample,
    records: Sequence[CurationRecord],
    scores: dict[str, float],
    decision: FilterDecision,
    test: Sequence[CurationRecord],
) -> str:
    figures, twin = [_thumbnail(sample.images)], ""
    attribution = sample.attribution or sample.license
    if decision.match is not None:
        whose, name = (test, "the test set's") if decision.reason in _TEST_SET else (records, "what stays")
        other = whose[decision.match.index]
        figures.append(_thumbnail(other.images))
        how = (
            f", {decision.match.bits} bits apart" if decision.match.bits is not None
            else f", cosine {decision.match.similarity:.3f}" if decision.match.similarity is not None else ""
        )  # fmt: skip
        twin = f"<small>right: {name} {_text(other.id)}{how}</small>"
        if other.attribution != attribution:
            twin += f"<small>right: {_text(other.attribution)}</small>"
    text = " / ".join(turn.text for turn in sample.turns if turn.role == "assistant")
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    numbers = " · ".join(
        f"{name.replace('_', ' ')} {_number(scores[name])}" for name in _NAMES if np.isfinite(scores.get(name, np.nan))
    )
    why = f"<p>{_text(decision.why)}</p>" if decision.why else ""
    return (
        f'<figure><div class="images">{"".join(figures)}</div><figcaption><h3>{_text(sample.id)}</h3>{why}'
        f"<p>{_text(text)}</p><small>{numbers}</small>{twin}"
        f"<small>{_text(attribution)}</small></figcaption></figure>"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _thumbnail(images: Sequence[str]) -> str:
    """Return the first image without boxes, which would hide its content; empty if there is no image."""
    if not images:
        return ""
    buffer = io.BytesIO()
    try:
        shown = Sample(id="shown", images=[images[0]], source="shown", license="shown")
        draw_sample(shown, _SIDE).save(buffer, format="JPEG", quality=85)
    except DataError:
        return ""
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'

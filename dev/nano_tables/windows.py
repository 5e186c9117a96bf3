"""Tables about windows that were judged by eye: presence, land-cover shares, Bordeaux."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dev.gold_windows import ATTRIBUTES, write_geotiff
from dev.nano_tables.report import Row, Section
from dev.nano_tables.scores import balanced_accuracy, balanced_interval, majority_by_set, others
from dev.nano_tables.subject import Subject

from lhrs.inference.images import ImageInput
from lhrs.inference.tasks import ask_task, classify_task
from lhrs.perception.evidence import Evidence
from lhrs.schema import Answer

QUESTIONS = {
    "water": "is there water?",
    "forest": "is there a forest?",
    "buildings": "are there buildings?",
    "road": "is there a road?",
    "fields": "are there crop fields?",
}
COVERS = {
    "water": ("water",),
    "trees": ("trees",),
    "low_vegetation": ("grass", "crops"),
    "built_up": ("building", "paved"),
    "bare": ("bare",),
}
"""Land-cover classes of the model that each judged cover is."""
LABELS = {"forest": "trees", "fields": "low_vegetation", "city": "built_up", "water": "water", "bare ground": "bare"}
"""Labels of the scene command in the README, with the judged cover that each stands for."""


def ask_presence(subject: Subject, images: Sequence[ImageInput], rows: Sequence[dict[str, Any]]) -> list[Answer]:
    """Return the answer to the question about the attribute of each row."""
    family = subject.assistant.runtime.family
    tasks = [[ask_task(family, QUESTIONS[row["attribute"]])] for row in rows]
    return [answer for (answer,) in subject.ask(images, tasks)]


def presence(subject: Subject) -> Section:
    """Presence of five attributes, as PNG and as 16-bit GeoTIFF."""
    section = Section("Presence in windows judged by eye")
    rows = subject.gold("presence.jsonl")
    pixels = [subject.window(row) for row in rows]
    right = [row["answer"] for row in rows]
    answers = ask_presence(subject, pixels, rows)
    blind = ask_presence(subject, [np.full_like(image, 128) for image in pixels], rows)
    swapped = np.arange(len(rows))
    for index, name in enumerate(ATTRIBUTES):
        members = np.flatnonzero([row["attribute"] == name for row in rows])
        swapped[members] = members[others(len(members), index)]
    shuffled = ask_presence(subject, [pixels[n] for n in swapped], rows)
    columns = {
        "blind": [a.answer for a in blind],
        "shuffled": [a.answer for a in shuffled],
        "constant": ["yes"] * len(rows),
        "constant per set": majority_by_set([f"{row['set']} {row['attribute']}" for row in rows], right),
    }
    texts = [a.answer for a in answers]
    for name in (*ATTRIBUTES, None):
        _add_balanced(section, "PNG", name, rows, texts, columns)
    with tempfile.TemporaryDirectory() as folder:
        oscd = [n for n, row in enumerate(rows) if row["set"] == "oscd"]
        files = []
        for n in oscd:
            files.append(Path(folder) / f"{rows[n]['id']:03d}.tif")
            if not files[-1].exists():
                write_geotiff(subject.data, rows[n], files[-1])
        part = [rows[n] for n in oscd]
        tiff = [a.answer for a in ask_presence(subject, files, part)] if part else []
    for name in (*ATTRIBUTES, None):
        png = {"the same windows as PNG": [texts[n] for n in oscd]}
        _add_balanced(section, "16-bit GeoTIFF", name, part, tiff, png)
    section.details["answers"] = [
        {**row, "model": answer.answer, "confidence": answer.confidence, "blind": b.answer}
        for row, answer, b in zip(rows, answers, blind, strict=True)
    ]
    section.notes = [
        "Blind: gray images. Shuffled: the image of another row of the attribute. Constant per set: the more frequent "
        "right answer of each attribute in each data set, as if the data set were known.",
        "An answer other than yes and no is wrong. GeoTIFF: rows of OSCD, where both answers occur.",
    ]
    return section


def _add_balanced(
    section: Section, form: str, name: str | None, rows: Sequence[dict[str, Any]], answers: Sequence[str],
    columns: dict[str, list[str]],
) -> None:  # fmt: skip
    """Add a row for one attribute, or for all, where both answers occur."""
    members = [n for n, row in enumerate(rows) if name is None or row["attribute"] == name]
    right = [rows[n]["answer"] for n in members]
    if len(set(right)) < 2:
        return
    given = [answers[n] for n in members]
    beside = {key: balanced_accuracy(right, [column[n] for n in members]) for key, column in columns.items()}
    score, interval = balanced_accuracy(right, given), balanced_interval(right, given)
    section.rows.append(Row(f"{form}: {name or 'all'}", "balanced accuracy", len(members), score, *interval, beside))


def shares_of(evidence: Evidence) -> np.ndarray:
    """Return the percentages of the judged covers, in the order of `COVERS`."""
    return np.array([100 * sum(evidence.cover[name] for name in names) for names in COVERS.values()])


def judged_shares(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the judged percentages `(N, 5)`, in the order of `COVERS`."""
    return np.array([[row["shares"][cover] for cover in COVERS] for row in rows], float)


def shares(subject: Subject) -> Section:
    """Land-cover shares against those judged by eye, and the Bordeaux scene."""
    section = Section("Land-cover shares")
    rows = subject.gold("shares.jsonl")
    if subject.has_evidence:
        seen = np.array([shares_of(e) for e in subject.evidence([subject.window(row) for row in rows])])
        judged = judged_shares(rows)
        errors, constant = np.abs(seen - judged), np.abs(judged.mean(0) - judged)
        for n, cover in enumerate(COVERS):
            section.add_mean(
                cover, errors[:, n], "mean absolute error in points", constant=float(constant[:, n].mean())
            )
        section.add_mean("all covers", errors.mean(1), "mean absolute error in points", constant=float(constant.mean()))
        for n, cover in enumerate(COVERS):
            near = (constant[:, n] <= 10).mean()
            section.add_accuracy(cover, (errors[:, n] <= 10).tolist(), "within 10 points", constant=float(near))
        section.add_accuracy("all covers of a window", (errors <= 10).all(1).tolist(), "within 10 points",
                             constant=float((constant <= 10).all(1).mean()))  # fmt: skip
        section.details["windows"] = [
            {**row, "model": dict(zip(COVERS, s.round(1).tolist(), strict=True))}
            for row, s in zip(rows, seen, strict=True)
        ]
    _bordeaux(section, subject)
    section.notes += ["Constant: the mean of the judged shares."]
    return section


def _bordeaux(section: Section, subject: Subject) -> None:
    rows = subject.gold("bordeaux_windows.jsonl")
    task = classify_task(subject.assistant.runtime.family, list(LABELS))
    main = [row["main"] for row in rows]
    majority = max(map(main.count, main)) / len(main)
    with tempfile.TemporaryDirectory() as folder:
        tiffs = [Path(folder) / f"{row['id']:03d}.tif" for row in rows]
        for row, file in zip(rows, tiffs, strict=True):
            write_geotiff(subject.data, row, file)
        forms = {"PNG": [subject.window(row) for row in rows], "16-bit GeoTIFF": tiffs}
        for form, images in forms.items():
            answers = [a for (a,) in subject.ask(images, [task])]
            covers = [LABELS[a.answer] for a in answers]
            hits = [a == b for a, b in zip(covers, main, strict=True)]
            section.add_accuracy(f"Bordeaux, {form}: main cover", hits, "accuracy", constant=majority)
            section.details[f"Bordeaux, {form}"] = [
                {"id": row["id"], "right": row["main"], "answer": a.answer, "confidence": a.confidence}
                for row, a, hit in zip(rows, answers, hits, strict=True) if not hit
            ]  # fmt: skip
            whole = [n for n, row in enumerate(rows) if row["grid"] == 0]
            if not whole:
                continue
            measures = {"% of windows, grid 0": _one_hot(covers), "% of area, grid 0": None}
            by_eye = {"% of windows, grid 0": _one_hot(main), "% of area, grid 0": judged_shares(rows)}
            if subject.has_evidence:
                measures["% of area, grid 0"] = np.array([shares_of(e) for e in subject.evidence(images)])
            for metric, values in measures.items():
                for n, cover in enumerate(COVERS if values is not None else ()):
                    eye = float(by_eye[metric][whole, n].mean())
                    mean = float(values[whole, n].mean())
                    name = f"Bordeaux, {form}: {cover}"
                    section.rows.append(Row(name, metric, len(whole), mean, baselines={"by eye": eye}))


def _one_hot(covers: Sequence[str]) -> np.ndarray:
    """Return 100 for the cover of each window and 0 for the others, `(N, 5)`."""
    return np.array([[100.0 * (cover == name) for name in COVERS] for cover in covers])

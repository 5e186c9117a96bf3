"""Tables about objects: boxes and counts of buildings, trees and vehicles."""

import numpy as np
from dev.nano_tables.report import Row, Section
from dev.nano_tables.scores import as_number, f1, f1_interval, match_boxes
from dev.nano_tables.subject import Subject, read_coco, read_samples

from lhrs.inference.tasks import count_task, ground_task


def objects(subject: Subject) -> Section:
    """Boxes and counts on images that are held out."""
    section = Section("Objects")
    folder, limit = subject.prepared, subject.limit
    sets = {
        "buildings, Banepa": ("buildings", True, read_coco(folder / "banepa_test.json", limit)),
        "buildings, site 3": ("buildings", True, read_coco(folder / "site3_test.json", limit)),
        "trees": ("trees", False, read_samples(folder / "urban_trees.jsonl", limit)),
        "vehicles": ("vehicles", True, read_samples(folder / "vehicles.jsonl", limit)),
    }
    family = subject.assistant.runtime.family
    for name, (thing, has_extent, (files, boxes)) in sets.items():
        answers = subject.ask(files, [count_task(family, thing), ground_task(family, f"the {thing}")])
        counts = []
        for (_, located), real in zip(answers, boxes, strict=True):
            predicted = np.array([box.xyxy for box in located.boxes], float).reshape(-1, 4)
            counts.append([match_boxes(predicted, real), len(predicted), len(real)])
        if has_extent:
            table = np.array(counts)
            matched, predicted, real = table.sum(0)
            parts = {"precision": float(matched / max(predicted, 1)), "recall": float(matched / max(real, 1))}
            section.rows.append(Row(name, "F1 at IoU 0.5", len(files), f1(table), *f1_interval(table), parts))
        real_counts = np.array([len(b) for b in boxes])
        errors = np.abs(np.array([as_number(counted.answer) for counted, _ in answers]) - real_counts)
        constant = float(np.abs(real_counts - np.median(real_counts)).mean())
        ratio = float(errors.mean()) / constant if constant else float("nan")
        section.add_mean(name, errors, "count: mean absolute error", constant=constant, **{"ratio to it": ratio})
        section.details[name] = [
            {"file": file.name, "count": counted.answer, "right": real, "boxes": guess, "matched": matched}
            for file, (counted, _), (matched, guess, real) in zip(files, answers, counts, strict=True)
        ]
        print(f"{name}: {section.rows[-1].score:.2f}", flush=True)
    section.notes = [
        "Constant: the median of the right counts of these images, which no constant beats. F1 is over all boxes of "
        "all images, its interval over images. Trees are points: their boxes have a nominal size and are not scored.",
    ]
    return section

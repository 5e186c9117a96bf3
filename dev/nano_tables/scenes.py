"""Tables about whole images: scene classes, label sets, calibration, out of distribution."""

import json

import numpy as np
import yaml
from dev.gold_windows import GOLD
from dev.nano_tables.renderings import CHANGES
from dev.nano_tables.report import Row, Section
from dev.nano_tables.scores import fold
from dev.nano_tables.subject import Scenes, Subject, sample
from dev.nano_tables.windows import ask_presence

from lhrs.inference.tasks import classify_task
from lhrs.metrics.calibration import ece
from lhrs.metrics.statistics import auroc
from lhrs.perception.describe import scene_name
from lhrs.perception.score_labels import LabelScorer
from lhrs.schema import Answer


def class_name(scenes: Scenes, label: str) -> str:
    """Return the words of a class of a scene set."""
    return scene_name(f"{scenes.name}/{label}")


def is_named(answer: str, scenes: Scenes, label: str) -> bool:
    """Return whether an answer is a class, in words or as the data set writes it."""
    return fold(answer) in {fold(label), fold(class_name(scenes, label))}


def classes(subject: Subject) -> Section:
    """Scene classes in free text and with the labels given, under each change of the rendering."""
    section = Section("Scene classes under changes of the rendering")
    clean: dict[str, float] = {}
    for scenes in subject.scenes:
        tasks = [classify_task(subject.assistant.runtime.family, labels) for labels in (None, scenes.classes)]
        majority = max(scenes.labels.count(label) for label in scenes.classes) / len(scenes.labels)
        for change, function in CHANGES.items():
            answers = subject.ask(scenes.files, tasks, function)
            for column, form in enumerate(("free text", "labels given")):
                hits = [
                    is_named(a[column].answer, scenes, label) for a, label in zip(answers, scenes.labels, strict=True)
                ]
                key = f"{scenes.name}, {form}"
                if change == "as it is":
                    section.add_accuracy(f"{key}: {change}", hits, majority=majority)
                    clean[key] = float(np.mean(hits))
                    section.details[key] = _errors(scenes, [a[column] for a in answers])
                else:
                    ratio = float(np.mean(hits)) / clean[key] if clean[key] else float("nan")
                    section.add_accuracy(f"{key}: {change}", hits, **{"ratio to the image as it is": ratio})
            print(f"{scenes.name}, {change}: {section.rows[-2].score:.3f} {section.rows[-1].score:.3f}", flush=True)
    section.notes = [
        "Answers are compared after case, spaces, underscores, hyphens and the final full stop are removed. A class "
        "counts as named in words (`sea or lake`) or as the data set writes it (`SeaLake`).",
    ]
    return section


def _errors(scenes: Scenes, answers: list[Answer]) -> list[dict[str, object]]:
    """Return image, right answer, answer and confidence of the wrong answers."""
    return [
        {"file": file.name, "right": label, "answer": answer.answer, "confidence": answer.confidence}
        for file, label, answer in zip(scenes.files, scenes.labels, answers, strict=True)
        if not is_named(answer.answer, scenes, label)
    ]


def label_sets(subject: Subject) -> Section:
    """Label sets of a user's own words, next to the taught names grouped in the same way."""
    section = Section("Label sets of own words")
    sets = yaml.safe_load((GOLD / "label_sets.yaml").read_text(encoding="utf-8"))
    free = classify_task(subject.assistant.runtime.family)
    for scenes in subject.scenes:
        for number, mapping in enumerate(sets[scenes.name], 1):
            right_of = {label: word for word, labels in mapping.items() for label in labels}
            chosen = [n for n, label in enumerate(scenes.labels) if label in right_of]
            files, right = [scenes.files[n] for n in chosen], [right_of[scenes.labels[n]] for n in chosen]
            answers = subject.ask(files, [classify_task(subject.assistant.runtime.family, list(mapping)), free])
            if subject.has_evidence:
                grouped = [_grouped(dict(seen.scenes), scenes, mapping) for seen in subject.evidence(files)]
            else:
                words = {fold(class_name(scenes, label)): word for label, word in right_of.items()}
                grouped = [words.get(fold(answer.answer), "") for _, answer in answers]
            taught = [a == b for a, b in zip(grouped, right, strict=True)]
            hits = [answer.answer == word for (answer, _), word in zip(answers, right, strict=True)]
            task = f"{scenes.name} {number}: {', '.join(mapping)}"
            both = np.mean(taught)
            section.add_accuracy(task, hits, **{"taught names grouped": both, "difference": np.mean(hits) - both})
            pairs = zip(files, right, answers, strict=True)
            section.details[task] = [[f.name, r, a.answer, a.confidence] for f, r, (a, _) in pairs if a.answer != r]
            section.notes += [f"{task}: {warning}" for warning in LabelScorer(list(mapping)).warnings]
    section.notes += ["Taught names grouped: the label whose classes have the largest sum of probabilities; without "
                      "dense heads, the label of the class that is answered in free text."]  # fmt: skip
    return section


def _grouped(probabilities: dict[str, float], scenes: Scenes, mapping: dict[str, list[str]]) -> str:
    return max(mapping, key=lambda word: sum(probabilities.get(f"{scenes.name}/{name}", 0) for name in mapping[word]))


def calibration(subject: Subject) -> Section:
    """Expected calibration error of classes and of presence."""
    section = Section("Calibration")
    every: list[tuple[float, bool]] = []
    for scenes in subject.scenes:
        answers = [a for (a,) in subject.ask(scenes.files, [classify_task(subject.assistant.runtime.family)])]
        pairs = [
            (a.confidence or 0.0, is_named(a.answer, scenes, label))
            for a, label in zip(answers, scenes.labels, strict=True)
        ]
        _add_ece(section, f"{scenes.name}: class in free text", pairs)
        every += pairs
    _add_ece(section, "both sets", every)
    rows = subject.gold("presence.jsonl")
    answers = ask_presence(subject, [subject.window(row) for row in rows], rows)
    hits = [fold(a.answer) == row["answer"] for a, row in zip(answers, rows, strict=True)]
    _add_ece(section, "presence judged by eye", [(a.confidence or 0.0, h) for a, h in zip(answers, hits, strict=True)])
    section.notes = ["15 bins of equal width. Intervals are percentiles of 2,000 bootstrap resamples."]
    return section


def _add_ece(section: Section, task: str, pairs: list[tuple[float, bool]]) -> None:
    confidence, correct = np.array([c for c, _ in pairs]), np.array([h for _, h in pairs])
    rng = np.random.default_rng(0)
    picks = rng.integers(len(pairs), size=(2000, len(pairs)))
    low, high = np.quantile([ece(confidence[pick], correct[pick]) for pick in picks], [0.025, 0.975])
    means = {"mean confidence": float(confidence.mean()), "accuracy": float(correct.mean())}
    score = ece(confidence, correct)
    section.rows.append(Row(task, "expected calibration error", len(pairs), score, float(low), float(high), means))


def out_of_distribution(subject: Subject) -> Section:
    """Images that are no overhead images, next to the model's own kinds."""
    section = Section("Out-of-distribution images")
    runtime = subject.assistant.runtime
    if runtime.ood_threshold is None:
        section.notes = ["The model has no detector of out-of-distribution images."]
        return section
    threshold = runtime.ood_threshold

    def scores(images: list) -> np.ndarray:
        return np.array([runtime.ood_score(image.pixels) for image in subject.open(images)], float)

    own = {scenes.name: scores(scenes.files) for scenes in subject.scenes}
    windows = subject.gold("windows.jsonl")
    own["windows judged by eye"] = scores([subject.window(row) for row in windows])
    pooled = np.concatenate(list(own.values()))
    sets: dict[str, list] = {}
    for line in (subject.ood / "index.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        sets.setdefault(row["set"], []).append(subject.ood / row["file"])
    for name, files in sets.items():
        files = sample(files, subject.limit)
        values = scores(files)
        low, high = _auroc_interval(pooled, values)
        section.rows.append(Row(name, "AUROC", len(values), auroc(pooled, values), low, high))
        section.add_accuracy(name, (values > threshold).tolist(), "fraction flagged")
        section.details[name] = [f.name for f, v in zip(files, values, strict=True) if v <= threshold]
    for name, values in own.items():
        section.add_accuracy(f"own: {name}", (values > threshold).tolist(), "fraction flagged")
    section.details["own: windows judged by eye"] = [
        row["id"] for row, value in zip(windows, own["windows judged by eye"], strict=True) if value > threshold
    ]
    section.add_accuracy("own: all", (pooled > threshold).tolist(), "fraction flagged")
    section.notes = [
        "AUROC is of a set against all own images: EuroSAT test, UC Merced val, windows judged by eye.",
        "Flagged: the distance is above the threshold of the model. JSON: what was not flagged, of own what was.",
    ]
    return section


def _auroc_interval(own: np.ndarray, values: np.ndarray, rounds: int = 300) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = [
        auroc(own[rng.integers(len(own), size=len(own))], values[rng.integers(len(values), size=len(values))])
        for _ in range(rounds)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)

"""Published scorers with their defects, to reproduce published scores. Do not compare models by them.

Each is written from a description of the original, whose file and defect are named. No code was copied.
"""

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Legacy:
    """A published scorer."""

    name: str
    source: str
    """Location of the original."""
    defect: str
    score: Callable[..., float]
    """Function of predictions and answers in the format of the original."""


def lhrs_bot_grounding(predictions: np.ndarray, answers: np.ndarray) -> float:
    """Return acc@0.5 with box sides x2 - x1 + 1 on 0-1 coordinates. Disjoint boxes overlap by half."""
    a, b = np.asarray(predictions, float), np.asarray(answers, float)
    sides = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + 1).clip(min=0)
    inter = sides.prod(1)
    area_a, area_b = ((c[:, 2:] - c[:, :2] + 1).prod(1) for c in (a, b))
    return float((inter / (area_a + area_b - inter) > 0.5).mean())


def lhrs_bench_first_letter(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the accuracy of the first character after articles are removed. The answer A becomes empty."""

    def strip(text: str) -> str:
        bare = "".join(c for c in text.lower() if c not in string.punctuation)
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())

    return float(np.mean([strip(p[:1]) == strip(a) for p, a in zip(predictions, answers, strict=True)]))


def scorers_substring(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the fraction of predictions whose first sentence is part of the answer. An empty prediction is correct."""
    return float(np.mean([
        p.split(".")[0].replace(" ", "").lower() in a.replace(" ", "").lower()
        for p, a in zip(predictions, answers, strict=True)
    ]))  # fmt: skip


def rsevalkit_substring(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the fraction of predictions that are part of the answer. An empty prediction is correct."""
    return float(np.mean([p in a for p, a in zip(predictions, answers, strict=True)]))


def lhrs_bot_vqa(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the accuracy by VQA v2 normalization, equal to or part of the answer. An empty prediction is correct."""

    def plain(text: str) -> str:
        bare = "".join(c for c in text.lower().strip() if c not in string.punctuation)
        return " ".join(w for w in bare.split() if w not in ("a", "an", "the"))

    return float(np.mean([plain(p) == a or plain(p) in a for p, a in zip(predictions, answers, strict=True)]))


def rsthinker_contains(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the fraction of predictions that contain the answer. Listing all answers is correct."""
    return float(np.mean([a.lower() in p.lower() for p, a in zip(predictions, answers, strict=True)]))


def rsthinker_grounding(predictions: np.ndarray, answers: np.ndarray) -> float:
    """Return acc@0.5 where xyxy boxes are read as x, y, width, height."""
    a, b = (np.concatenate([c[:, :2], c[:, :2] + c[:, 2:]], 1) for c in (np.asarray(predictions, float),
                                                                         np.asarray(answers, float)))  # fmt: skip
    sides = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0)
    inter = sides.prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter
    return float((inter / np.maximum(union, 1e-9) >= 0.5).mean())


def choice_template(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the fraction of predictions that are part of the correct option's text or begin with its letter."""
    return float(np.mean([
        p.lower() in a.lower() or p.strip()[:1].lower() == a[:1].lower()
        for p, a in zip(predictions, answers, strict=True)
    ]))  # fmt: skip


def xlrs_regex(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the accuracy of the set of letters A to E found anywhere, even inside words."""
    letters = [{m.upper() for m in re.findall(r"(?:^|\s)?([a-eA-E])(?:$|[\s,.])?", p)} for p in predictions]
    return float(
        np.mean([f == set(a.replace(",", "").replace(" ", "")) for f, a in zip(letters, answers, strict=True)])
    )


def earthdial_recall(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the mean fraction of answer words in the prediction. Listing all classes is correct."""
    scores = []
    for prediction, answer in zip(predictions, answers, strict=True):
        wanted = set(answer.lower().split())
        scores.append(len(wanted & set(prediction.lower().replace(",", " ").split())) / max(1, len(wanted)))
    return float(np.mean(scores))


def vhm_presence(predictions: Sequence[str], answers: Sequence[str]) -> float:
    """Return the accuracy of yes or no where "Yes" is lower-cased and "No" is not."""
    parsed = ["yes" if "yes" in p.lower() else "no" if "no" in p else "" for p in predictions]
    return float(np.mean([s == a for s, a in zip(parsed, answers, strict=True)]))


LEGACY = {
    legacy.name: legacy
    for legacy in (
        Legacy("lhrs-bot-grounding", "LHRS-Bot main_vg.py", "pixel convention (+1) on boxes of 0-1",
               lhrs_bot_grounding),
        Legacy("lhrs-bot-bench", "LHRS-Bot main_bench_gen.py", "the answer A is erased as an article",
               lhrs_bench_first_letter),
        Legacy("lhrs-bot-vqa", "LHRS-Bot main_vqa.py", "part of the answer is enough", lhrs_bot_vqa),
        Legacy("scorers-substring", "ScoreRS rs_evaluation.py", "part of the answer is enough", scorers_substring),
        Legacy("rsevalkit-substring", "RSEvalKit", "part of the answer is enough", rsevalkit_substring),
        Legacy("vhm-presence", "RSEvalKit", "a capital No is wrong", vhm_presence),
        Legacy("rsthinker-contains", "RSThinker metrics.py", "to mention the answer is enough", rsthinker_contains),
        Legacy("rsthinker-grounding", "RSThinker metrics.py", "xyxy read as xywh", rsthinker_grounding),
        Legacy("choice-template", "CHOICE evaluator.py", "part of the option is enough", choice_template),
        Legacy("xlrs-regex", "lmms-eval and VLMEvalKit XLRS", "letters inside words count", xlrs_regex),
        Legacy("earthdial-recall", "EarthDial eval.py", "recall of words", earthdial_recall),
    )
}  # fmt: skip

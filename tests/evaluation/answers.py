"""Data of benchmarks on disk, and models that answer by a function. No model is loaded."""

import json

from PIL import Image

from lhrs.evaluation.metrics import find_metric
from lhrs.evaluation.prompts import build_prompts
from lhrs.evaluation.report import score_answers
from lhrs.inference.model_family import ModelFamily


def picture(path, size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def scored(benchmark, answer, protocol="free"):
    """Return the scores of a model that answers each question by a function of its item."""
    metric = find_metric(benchmark.metric)
    asked = build_prompts(benchmark.items(), metric, ModelFamily(), protocol)
    rows = [{"prediction": answer(one.item), "confidence": 0.5, "boxes": []} for one in asked]
    return score_answers(benchmark, metric, asked, {"normal": rows}, protocol)


def letters(item):
    right = item.answer if isinstance(item.answer, tuple) else (item.answer,)
    return ", ".join("ABCDE"[n] for n in right)

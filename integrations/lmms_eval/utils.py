"""Benchmarks of lhrs as tasks of lmms-eval: lhrs reads the questions, and lhrs.metrics parses and scores the answers.

The split of a task names the benchmark. `LHRS_BENCH_DATA` (the benchmark's name in capitals) is the folder with its
data. `LHRS_BENCH_SPLIT` selects another split than the default. `LHRS_MODEL_FAMILY` is the model family whose prompts
and box format are used, a file in lhrs/inference/families. Without it, prompts are plain, and boxes are in thousandths.
"""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.benchmark import Item, find_benchmark
from lhrs.evaluation.metrics import find_metric
from lhrs.evaluation.prompts import build_prompts
from lhrs.evaluation.runner import to_row
from lhrs.imagery.image import open_image
from lhrs.inference.model_family import ModelFamily, get_family
from lhrs.inference.runtime import Generation
from lhrs.metrics.scoring import score_per_sample, score_records

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

METRICS = {
    "choice": ("accuracy", "parse_failure_rate", "without_looking"),
    "vqa": ("accuracy", "mean_of_types", "parse_failure_rate", "without_looking"),
    "grounding": ("accuracy", "mean_iou", "parse_failure_rate"),
}
"""Reported scores by the metric of the benchmark; each is a function below."""


def questions(seed: "Dataset") -> "Dataset":
    """Return the questions of a benchmark instead of its placeholder row (`process_docs`).

    Raises:
        ConfigError: its folder is not set, or boxes of the model family cannot be read.
        DataError: something is missing or broken there.
    """
    from datasets import Dataset

    return Dataset.from_list(rows(str(seed.split)), split=seed.split)


def rows(name: str) -> list[dict[str, str]]:
    """Return a row for each question of a benchmark; see `questions`."""
    folder = os.environ.get(f"{name.upper()}_DATA")
    if not folder:
        raise ConfigError(f"set {name.upper()}_DATA to the folder with the data of {name.replace('_', '-')}.")
    benchmark = find_benchmark(name)(folder, os.environ.get(f"{name.upper()}_SPLIT"))
    metric = find_metric(benchmark.metric)
    family = _family()
    if metric.answer_type == "boxes" and _counts_pixels(family):
        raise ConfigError(
            f"the boxes of LHRS_MODEL_FAMILY={os.environ['LHRS_MODEL_FAMILY']} are in pixels of the resized image, "
            "whose size lmms-eval does not report; use `lhrs eval`."
        )
    prompted = build_prompts(benchmark.items(), metric, family, "free")
    if not prompted:
        raise DataError(f"{folder} has no question of {name.replace('_', '-')}.")
    return [
        {"prompt": one.prompt, "target": _target(one.item), "metric": metric.name,
         "item": json.dumps(asdict(one.item), ensure_ascii=False)}
        for one in prompted
    ]  # fmt: skip


def images(row: dict[str, str]) -> "list[Image]":
    """Return the images of a question as lhrs renders them (`doc_to_visual`)."""
    from PIL import Image

    return [Image.fromarray(open_image(path).pixels) for path in _item(row).images]


def judged(row: dict[str, str], replies: list[str]) -> dict[str, dict[str, Any]]:
    """Return an answer's record under the name of each metric (`process_results`)."""
    item, metric, size = _item(row), find_metric(row["metric"]), (1, 1)
    reply = Generation(replies[0], (), ())
    if metric.answer_type == "boxes":
        opened = open_image(item.images[0])
        size = (opened.width, opened.height)
        reply = Generation(replies[0], (), (), _family().read_boxes(replies[0], size).boxes)
    record = {**metric.to_record(item, to_row(reply, metric, size)), "metric": metric.name}
    correct = float(score_per_sample([record], metric)[0])  # gives the standard error of the accuracy in lmms-eval
    return {**dict.fromkeys(METRICS[metric.name], record), "accuracy": {**record, "score": correct}}


def accuracy(records: list[dict[str, Any]]) -> float:
    """Return the fraction of correct answers; boxes are correct if their IoU is at least 0.5."""
    return _scores(records)["accuracy"]


def parse_failure_rate(records: list[dict[str, Any]]) -> float:
    """Return the fraction of answers that could not be parsed; they are wrong."""
    return _scores(records)["parse_failure_rate"]


def without_looking(records: list[dict[str, Any]]) -> float:
    """Return the accuracy of the most frequent answer, or of chance for multiple choice."""
    scores = _scores(records)
    return scores.get("majority", scores.get("chance", float("nan")))


def mean_of_types(records: list[dict[str, Any]]) -> float:
    """Return the mean over question types of their accuracy."""
    return _scores(records)["mean_of_types"]


def mean_iou(records: list[dict[str, Any]]) -> float:
    """Return the mean IoU of boxes."""
    return _scores(records)["mean_iou"]


def _scores(records: list[dict[str, Any]]) -> dict[str, Any]:
    return score_records(records, records[0]["metric"])


def _family() -> ModelFamily:
    name = os.environ.get("LHRS_MODEL_FAMILY")
    return get_family(name) if name else ModelFamily()


def _counts_pixels(family: ModelFamily) -> bool:
    """Return whether the text of a box depends on the size of the image."""
    small, large = (family.write_boxes([[0.1, 0.2, 0.3, 0.4]], (side, side)) for side in (100, 200))
    return small != large


def _item(row: dict[str, str]) -> Item:
    return Item(**json.loads(row["item"]))


def _target(item: Item) -> str:
    return str(item.options[item.answer] if isinstance(item.answer, int) else item.answer)

"""lhrs's benchmarks as tasks of lmms-eval: questions by lhrs's readers, answers parsed and scored by lhrs.metrics.

The split that a task names is the benchmark. `LHRS_BENCH_DATA` (and so on: its name in capitals) is the folder with its
data, `LHRS_BENCH_SPLIT` another split than its own, `LHRS_MODEL_FAMILY` the family of models whose prompts and boxes
are used (a file in lhrs/inference/families; without it, plain prompts, and boxes in thousandths).
"""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.asking import Asked, kept, put, record
from lhrs.evaluation.benchmark import Item, find_benchmark
from lhrs.imagery.open import open_image
from lhrs.inference.model_family import ModelFamily, get_family
from lhrs.inference.runtime import Generation
from lhrs.metrics.records import per_sample, score_records

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

METRICS = {
    "choice": ("accuracy", "unparseable", "without_looking"),
    "vqa": ("accuracy", "mean_of_types", "unparseable", "without_looking"),
    "grounding": ("accuracy", "mean_iou", "unparseable"),
}
"""What is reported, by the metric of the benchmark: the functions below."""


def questions(seed: "Dataset") -> "Dataset":
    """Return a benchmark's questions in place of the row that stands for them (`process_docs`).

    Raises:
        ConfigError: its folder is not named, or its boxes cannot be read here.
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
    family = _family()
    if benchmark.metric == "grounding" and _counts_pixels(family):
        raise ConfigError(
            f"the boxes of LHRS_MODEL_FAMILY={os.environ['LHRS_MODEL_FAMILY']} count pixels of the image as the "
            "model saw it, which lmms-eval does not tell; use `lhrs eval`."
        )
    asked = put(benchmark.items(), benchmark.metric, family, "free")
    if not asked:
        raise DataError(f"{folder} has no question of {name.replace('_', '-')}.")
    return [
        {"prompt": one.prompt, "target": _target(one.item), "metric": benchmark.metric,
         "item": json.dumps(asdict(one.item), ensure_ascii=False)}
        for one in asked
    ]  # fmt: skip


def images(row: dict[str, str]) -> "list[Image]":
    """Return the pictures of a question as lhrs shows them (`doc_to_visual`)."""
    from PIL import Image

    return [Image.fromarray(open_image(path).pixels) for path in _item(row).images]


def judged(row: dict[str, str], replies: list[str]) -> dict[str, dict[str, Any]]:
    """Return an answer's record under the name of each metric (`process_results`)."""
    item, metric, size = _item(row), row["metric"], (1, 1)
    reply = Generation(replies[0], (), ())
    if metric == "grounding":
        opened = open_image(item.images[0])
        size = (opened.width, opened.height)
        reply = Generation(replies[0], (), (), _family().read_boxes(replies[0], size).boxes)
    found = record(Asked(item, 0, row["prompt"], None), kept(reply, metric, size), metric)  # type: ignore[arg-type]
    found["metric"] = metric
    right = float(per_sample([found], metric)[0])  # what lmms-eval's standard error of the accuracy is made of
    return {**dict.fromkeys(METRICS[metric], found), "accuracy": {**found, "score": right}}


def accuracy(records: list[dict[str, Any]]) -> float:
    """Return the share of right answers; for boxes, of those that overlap by at least a half."""
    return _scores(records)["accuracy"]


def unparseable(records: list[dict[str, Any]]) -> float:
    """Return the share of answers that say nothing the question allows; they are wrong."""
    return _scores(records)["unparseable"]


def without_looking(records: list[dict[str, Any]]) -> float:
    """Return what the most frequent answer reaches, or for choices, what chance does."""
    scores = _scores(records)
    return scores.get("majority", scores.get("chance", float("nan")))


def mean_of_types(records: list[dict[str, Any]]) -> float:
    """Return the mean of the accuracies of the types of questions."""
    return _scores(records)["mean_of_types"]


def mean_iou(records: list[dict[str, Any]]) -> float:
    """Return the mean overlap of boxes."""
    return _scores(records)["mean_iou"]


def _scores(records: list[dict[str, Any]]) -> dict[str, Any]:
    return score_records(records, records[0]["metric"])


def _family() -> ModelFamily:
    name = os.environ.get("LHRS_MODEL_FAMILY")
    return get_family(name) if name else ModelFamily()


def _counts_pixels(family: ModelFamily) -> bool:
    """Tell whether the same box is written differently for images of different sizes."""
    small, large = (family.write_boxes([[0.1, 0.2, 0.3, 0.4]], (side, side)) for side in (100, 200))
    return small != large


def _item(row: dict[str, str]) -> Item:
    return Item(**json.loads(row["item"]))


def _target(item: Item) -> str:
    return str(item.options[item.answer] if isinstance(item.answer, int) else item.answer)

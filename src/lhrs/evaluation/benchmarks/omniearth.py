"""OmniEarth (Fu et al., 2026, arXiv:2603.09471): choices in five wordings on perception, reasoning and robustness."""

from pathlib import Path
from typing import Any

from lhrs.data.dataset import read_json
from lhrs.data.download import HubSource
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import letter_index, split_options

# Tasks by dimension, named as their files, as in README.md of one87624/OmniEarth (commit 8ba8559).
_TASKS = {
    "Perception": (
        "scene classification", "land-cover classification", "image modality recognition", "image caption",
        "visual grounding", "referring expression comprehension", "object counting",
        "fine-grained category classification", "attribute recognition", "referring expression segmentation",
        "generalized referring expression segmentation", "change mask segmentation",
    ),
    "Reasoning": (
        "spatial relationship reasoning", "geometric measurement", "functional region localization",
        "change description", "damage assessment reasoning", "long-term trend reasoning",
        "seasonal temporal reasoning", "geo-localization reasoning", "disaster cause inference",
        "geo-entity understanding", "planning suggestions", "city recognition",
    ),
    "Robustness": (
        "image condition assessment", "degraded-condition vqa", "hallucination detection", "semantic consistency",
    ),
}  # fmt: skip


class OmniEarth(Benchmark):
    """Multiple-choice questions in five wordings; a question counts only if all its wordings are answered correctly.

    That is the quintuple semantic consistency of the paper; `accuracy` counts each wording. The baseline `blind` is its
    blind test: the same questions without images. The authors publish neither their prompts nor a scorer, so that both
    rules follow the abstract. Open questions (captions, boxes, masks) have no published protocol: they are left out
    and counted.
    """

    metric = "choice"
    homepage = "https://github.com/one87624/OmniEarth"
    license = "none stated; images of Jilin-1, Capella Space and public datasets"
    layout = "a folder with Perception/, Reasoning/ and Robustness/, in them <task>/<task>.json and images/"
    download_hint = "Download https://huggingface.co/datasets/sjeeudd/OmniEarth."
    source = HubSource("sjeeudd/OmniEarth")
    groups = _TASKS
    all_wordings = True

    def items(self) -> list[Item]:
        paths = [path for dimension in _TASKS for path in sorted((self.root / dimension).glob("*/*.json"))]
        if not paths:
            raise DataError(f"{self.root} has no tasks. Expected {self.layout}. {self.download_hint}")
        for task in sorted({task for tasks in _TASKS.values() for task in tasks} - {path.stem for path in paths}):
            self.dropped.add("tasks without a file", task)
        items: list[Item] = []
        for path in paths:
            for n, row in enumerate(read_json(path)):
                try:
                    items += self._wordings(path, n, row)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise DataError(f"{path}: entry {n} is not OmniEarth's ({error!r}).") from None
        return items

    def _wordings(self, path: Path, number: int, row: dict[str, Any]) -> list[Item]:
        if not row.get("options"):
            self.dropped.add("open questions", path.stem)
            return []
        options = tuple(split_options(row["options"]))
        answer = letter_index(row["ground_truth_option"], len(options))
        files = row["image_path"] if isinstance(row["image_path"], list) else [row["image_path"]]
        images = tuple(str(path.parent / "images" / file) for file in files)
        group = f"{path.stem}/{row.get('question_id', number)}"
        return [
            Item(f"{group}/{k}", images, prompt.strip(), answer, options, path.stem, question_group=group)
            for k, prompt in enumerate(row["prompts"])
        ]

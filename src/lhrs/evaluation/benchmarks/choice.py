"""CHOICE (An et al., 2024, arXiv:2411.18145): what a model can do with images of fifty cities, as single choices."""

from lhrs.data.dataset import read_json
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import letter_index, split_question

# Folders and leaf tasks as in ms-swift/infer_vlm/infer_choice.py of ShawnAn-WHU/CHOICE. Two of the 23 leaves have no
# options: visual_grounding is the benchmark `choice-grounding`, referring_expression_segmentation asks for masks.
_TASKS = {
    "perception/image_level_comprehension": (
        "image_modality", "image_quality", "map_recognition", "scene_classification", "image_caption",
    ),
    "perception/single_instance_identification": (
        "landmark_recognition", "object_counting", "object_localization", "object_presence", "attribute_recognition",
        "hallucination_detection",
    ),
    "perception/cross_instance_discerment": ("attribute_comparison", "spatial_relationship", "change_detection"),
    "reasoning/assessment_reasoning": ("environmental_assessment", "resource_assessment"),
    "reasoning/attribute_reasoning": ("physical_property", "time_property"),
    "reasoning/common_sense_reasoning": ("disaster_discrimination", "geospatial_determination", "situation_inference"),
}  # fmt: skip


class Choice(Benchmark):
    """Twenty-one of its 23 leaf tasks, in six groups; three or four options. Missing tasks are left out and counted."""

    metric = "choice"
    homepage = "https://github.com/ShawnAn-WHU/CHOICE"
    license = "MIT"
    layout = "a folder with perception/ and reasoning/, in them <group>/<task>/<task>.json and images/"
    download_hint = "Download CHOICE as described on its homepage."
    groups = {folder.partition("/")[2]: tasks for folder, tasks in _TASKS.items()}

    def items(self) -> list[Item]:
        paths = [self.root / folder / task / f"{task}.json" for folder, tasks in _TASKS.items() for task in tasks]
        existing = [path for path in paths if path.exists()]
        if not existing:
            raise DataError(f"{self.root} has none of CHOICE's tasks. Expected {self.layout}. {self.download_hint}")
        items = []
        for path in paths:
            if path not in existing:
                self.dropped.add("tasks without a file", path.stem)
        for path in existing:
            for n, row in enumerate(read_json(path)):
                try:
                    question, options = split_question(row["question"])
                    answer = letter_index(row["answer"], len(options))
                    image = str(self.root / row["image_path"])
                    items.append(Item(str(row["id"]), (image,), question, answer, options, path.stem))
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise DataError(f"{path}: entry {n} is not CHOICE's ({error!r}).") from None
        return items

"""What both resolutions of RSVQA share."""

from lhrs.data.datasets.rsvqa import RSVQA
from lhrs.evaluation.benchmark import Benchmark, Item


class RsvqaBenchmark(Benchmark):
    """Short answers of several types; `by` has the accuracy of each. The test split, unless another is named."""

    metric = "vqa"
    homepage = RSVQA.homepage
    license = RSVQA.licence
    layout = RSVQA.layout

    def items(self) -> list[Item]:
        dataset = RSVQA(self.root, self.split or "test")
        return [
            Item(sample.id, tuple(sample.images), sample.turns[0].text, sample.turns[1].text, type=sample.task)
            for sample in dataset[: len(dataset)]
        ]

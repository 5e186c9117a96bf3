"""Base class of the benchmarks for both resolutions of RSVQA."""

from lhrs.data.datasets.rsvqa import RSVQA
from lhrs.evaluation.benchmark import Benchmark, Item


class RsvqaBenchmark(Benchmark):
    """Short answers of several types; `by_type` has the accuracy of each. The default split is test."""

    metric = "vqa"
    homepage = RSVQA.homepage
    license = RSVQA.license
    layout = RSVQA.layout

    def items(self) -> list[Item]:
        dataset = RSVQA(self.root, self.split or "test")
        items = [
            Item(sample.id, tuple(sample.images), sample.turns[0].text, sample.turns[1].text, type=sample.task)
            for sample in dataset
        ]
        self.dropped.update(dataset.dropped)
        return items

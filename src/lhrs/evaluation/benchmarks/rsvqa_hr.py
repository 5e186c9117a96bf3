"""RSVQA, high resolution (Lobry et al., 2020, arXiv:2003.07333): USGS orthophotos at 15 cm."""

from lhrs.data.datasets.rsvqa import RSVQA
from lhrs.evaluation.benchmark import Benchmark, Item


class RsvqaHr(Benchmark):
    """Presence, comparison, counts and areas; `by` has the accuracy of each. Test split; `test_phili` is the second."""

    metric = "vqa"
    homepage = RSVQA.homepage
    licence = RSVQA.licence
    layout = RSVQA.layout
    obtain = "Download it from https://zenodo.org/records/6344367 and unpack it."
    own_split = "test"

    def items(self) -> list[Item]:
        dataset = RSVQA(self.root, self.split or self.own_split)
        found = []
        for sample in dataset[: len(dataset)]:
            question, answer = sample.turns[0].text, sample.turns[1].text
            found.append(Item(sample.id, tuple(sample.images), question, answer, type=sample.task))
        return found

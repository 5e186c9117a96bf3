"""RSVQA, high resolution (Lobry et al., 2020, arXiv:2003.07333): USGS orthophotos at 15 cm."""

from lhrs.data.download import DoiSource
from lhrs.evaluation.benchmarks._rsvqa import RsvqaBenchmark


class RsvqaHr(RsvqaBenchmark):
    """Presence, comparison, counts and areas; the split `test_phili` is the second test set, Philadelphia."""

    download_hint = "Download it from https://zenodo.org/records/6344367 and unpack it."
    source = DoiSource("10.5281/zenodo.6344367")

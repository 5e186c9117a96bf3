"""RSVQA, low resolution (Lobry et al., 2020, arXiv:2003.07333): Sentinel-2 at 10 m."""

from lhrs.data.download import DoiSource
from lhrs.evaluation.benchmarks._rsvqa import RsvqaBenchmark


class RsvqaLr(RsvqaBenchmark):
    """Presence, comparison, rural or urban, and counts."""

    download_hint = "Download it from https://zenodo.org/records/6344334 and unpack it."
    source = DoiSource("10.5281/zenodo.6344334")

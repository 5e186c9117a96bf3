"""NWPU-RESISC45 (Cheng et al., 2017, arXiv:1703.00121)."""

from lhrs.data.download import LibrarySource
from lhrs.evaluation.benchmark import SceneBenchmark


class Resisc45(SceneBenchmark):
    """Forty-five scene classes, 256 pixels a side."""

    homepage = "https://gcheng-nwpu.github.io/#Datasets"
    license = "images of Google Earth: research only"
    download_hint = "Get it with torchgeo (`torchgeo.datasets.RESISC45(download=True)`) or from its homepage."
    source = LibrarySource("torchgeo.datasets", "RESISC45", "NWPU-RESISC45")
    num_classes = 45
    default_split = "test"

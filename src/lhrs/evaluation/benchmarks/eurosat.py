"""EuroSAT (Helber et al., 2019, arXiv:1709.00029), RGB."""

from lhrs.data.download import LibrarySource
from lhrs.evaluation.benchmark import SceneBenchmark


class EuroSAT(SceneBenchmark):
    """Ten land-cover classes, Sentinel-2 at 10 m, 64 pixels a side."""

    homepage = "https://github.com/phelber/EuroSAT"
    license = "MIT"
    download_hint = "Download EuroSAT_RGB from https://zenodo.org/records/7711810 and unpack it."
    source = LibrarySource("torchvision.datasets", "EuroSAT", "eurosat/2750", checks=False)  # checks always
    num_classes = 10
    default_split = "test"

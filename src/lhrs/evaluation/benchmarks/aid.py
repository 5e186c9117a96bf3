"""AID (Xia et al., 2017, arXiv:1608.05167)."""

from lhrs.evaluation.benchmark import SceneBenchmark


class AID(SceneBenchmark):
    """Thirty scene classes, 600 pixels a side; LHRS-Bot scores all 10,000 images."""

    homepage = "https://captain-whu.github.io/AID/"
    license = "images of Google Earth: research only"
    download_hint = "Download AID from its homepage and unpack it."
    num_classes = 30
    default_split = "test"

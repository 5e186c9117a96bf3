"""WHU-RS19 (Xia et al., 2010; Dai and Yang, 2011)."""

from lhrs.evaluation.benchmark import SceneBenchmark


class WhuRs19(SceneBenchmark):
    """Nineteen scene classes, 600 pixels a side."""

    homepage = "https://captain-whu.github.io/BED4RS/"
    license = "images of Google Earth: research only"
    download_hint = "Download WHU-RS19 from its homepage and unpack it."
    num_classes = 19

"""SIRI-WHU (Zhao et al., 2016)."""

from lhrs.evaluation.benchmark import SceneBenchmark


class SiriWhu(SceneBenchmark):
    """Twelve scene classes, 200 pixels a side."""

    homepage = "http://www.lmars.whu.edu.cn/prof_web/zhongyanfei/e-code.html"
    license = "images of Google Earth: research only"
    download_hint = "Download the Google image data set of SIRI-WHU from its homepage and unpack it."
    num_classes = 12

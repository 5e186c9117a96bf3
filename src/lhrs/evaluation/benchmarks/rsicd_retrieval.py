"""RSICD, image-text retrieval (Lu et al., 2018, arXiv:1712.07835)."""

from lhrs.evaluation.benchmarks._retrieval import RetrievalBenchmark


class RsicdRetrieval(RetrievalBenchmark):
    """1,093 test images with five captions each; recall at 1, 5 and 10 in both directions and their mean (mR).

    `lhrs score` scores rankings; see `lhrs.metrics.retrieval`.
    """

    homepage = "https://github.com/201528014227051/RSICD_optimal"
    license = "none stated; images of Google Earth, Baidu, MapABC and Tianditu: research only"
    layout = "a folder with dataset_rsicd.json and RSICD_images/"
    download_hint = "Download RSICD from its homepage and unpack it."
    file = "dataset_rsicd.json"
    folder = "RSICD_images"

"""RSITMD, image-text retrieval (Yuan et al., 2022, arXiv:2204.09868)."""

from lhrs.evaluation.benchmarks._retrieval import RetrievalBenchmark


class RsitmdRetrieval(RetrievalBenchmark):
    """452 test images with five captions each; recall at 1, 5 and 10 in both directions and their mean (mR).

    `lhrs score` scores rankings; see `lhrs.metrics.retrieval`.
    """

    homepage = "https://github.com/xiaoyuan1996/AMFMN"
    license = "none stated; research only"
    layout = "a folder with dataset_RSITMD.json and images/"
    download_hint = "Download RSITMD as described on its homepage and unpack it."
    file = "dataset_RSITMD.json"
    folder = "images"

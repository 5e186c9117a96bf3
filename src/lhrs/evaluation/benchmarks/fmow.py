"""Functional Map of the World (Christie et al., 2018, arXiv:1711.07846), as folders of cropped images."""

from lhrs.evaluation.benchmark import SceneBenchmark


class Fmow(SceneBenchmark):
    """Sixty-two kinds of buildings and land use."""

    homepage = "https://github.com/fMoW/dataset"
    license = "https://github.com/fMoW/dataset/blob/master/LICENSE"
    download_hint = (
        "Download fMoW-rgb as described on its homepage and crop the boxes of its val split into <class>/<image>."
    )
    num_classes = 62
    default_split = "val"

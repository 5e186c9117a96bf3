"""METER-ML (Zhu et al., 2022, arXiv:2207.11166), NAIP images."""

from lhrs.evaluation.benchmark import SceneBenchmark


class MeterMl(SceneBenchmark):
    """Six sources of methane, and none."""

    homepage = "https://stanfordmlgroup.github.io/projects/meter-ml/"
    license = "CC-BY-4.0"
    download_hint = "Download it from its homepage and sort the NAIP images of the test split into <class>/<image>."
    num_classes = 7
    default_split = "test"

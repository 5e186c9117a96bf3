"""XLRS-Bench (Wang et al., 2025, arXiv:2503.23771), all choices."""

from lhrs.evaluation.benchmarks._xlrs import XlrsChoices


class Xlrs(XlrsChoices):
    """The choices of the full release, in the fields of XLRS-Bench-lite.

    The authors' average is over questions, `accuracy`; the average over tasks is `mean_of_types`. By October 2025 their
    repository announces this release, and publishes the full captions and boxes (`xlrs-caption`, `xlrs-grounding`) and
    the lite choices. Its fields could therefore not be checked.
    """

    layout = "a folder with the Parquet or Arrow files of the full choices"
    download_hint = "See https://huggingface.co/collections/initiacms/xlrs-bench for the releases."

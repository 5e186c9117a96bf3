"""XLRS-Bench-lite (Wang et al., 2025, arXiv:2503.23771): choices about images of about 8,500 pixels a side."""

from lhrs.data.download import HubSource
from lhrs.evaluation.benchmarks._xlrs import XlrsChoices


class XlrsLite(XlrsChoices):
    """Thirteen tasks with four options; in one task several options may be correct, then all of them are required.

    The authors' average of this release is over tasks, `mean_of_types`. Images are stored in the Parquet files. They
    are written once to the folder `images`, each under its hash.
    """

    layout = "a folder with the Parquet files of initiacms/XLRS-Bench-lite"
    download_hint = "Download https://huggingface.co/datasets/initiacms/XLRS-Bench-lite."
    source = HubSource("initiacms/XLRS-Bench-lite", ("*.parquet", "**/*.parquet"))

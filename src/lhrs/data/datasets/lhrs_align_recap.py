"""Captions of LHRS-Align-Recap, by a captioner that saw image and features (Li et al., 2024, arXiv:2411.09301)."""

from pathlib import Path

from lhrs.data.datasets._lhrs_features import FeatureFiles, feature_files, iterate_items
from lhrs.errors import DataError


class LhrsAlignRecap(FeatureFiles):
    """One sample per image that is there, with the caption `caption`.

    Format: that of `lhrs_align`. The released files have both captions: they are detected as `lhrs_align`, and
    `--format lhrs_align_recap` chooses this one.
    """

    download_hint = "`lhrs data get lhrs-align-recap`; the images must be downloaded from Google by their coordinates."
    key = "caption"

    @classmethod
    def sniff(cls, root: Path) -> bool:
        files = feature_files(root) if root.is_dir() else []
        try:
            first = next(iterate_items(files[0]), {}) if files else {}
        except DataError:
            return False
        return "caption" in first and "cap" not in first

"""Captions of LHRS-Align, made of OpenStreetMap's features (Muhtar et al., 2024, arXiv:2402.02544)."""

from pathlib import Path

from lhrs.data.datasets._lhrs_features import FeatureFiles, feature_files, iterate_items
from lhrs.errors import DataError


class LhrsAlign(FeatureFiles):
    """One sample per image that is there, with the caption `cap`.

    Format: `{"data": [...]}` of objects with `name`, `info.location` (country and city), `attrs`, `cap` and perhaps
    `caption`, which `lhrs_align_recap` reads. Captions without their image are counted as left out. Size: 1.15 M.
    """

    download_hint = "`lhrs data get lhrs-align`; the images must be downloaded from Google by their coordinates."
    key = "cap"

    @classmethod
    def sniff(cls, root: Path) -> bool:
        files = feature_files(root) if root.is_dir() else []
        try:
            return bool(files) and "cap" in next(iterate_items(files[0]), {})
        except DataError:
            return False

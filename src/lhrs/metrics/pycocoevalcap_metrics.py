"""METEOR and SPICE, which exist only as Java programs, through pycocoevalcap."""

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.errors import ConfigError, MissingExtraError

JAVA_METRICS = ("meteor", "spice")


def java_score(candidates: Sequence[str], references: Sequence[Sequence[str]], name: str) -> float:
    """Return METEOR (Denkowski and Lavie 2014) or SPICE (Anderson et al. 2016) of tokenized captions, 0-1.

    Args:
        candidates: one caption per image, tokens separated by spaces; empty ones score 0.
        references: one or more captions per image.
        name: one of `JAVA_METRICS`. SPICE downloads the models of its parser on first use.

    Raises:
        ConfigError: Java is not installed, or the program fails.
        MissingExtraError: pycocoevalcap is not installed.
    """
    if shutil.which("java") is None:
        raise ConfigError(f"{name} is a Java program and there is no `java` here: install a Java runtime.")
    try:
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.spice.spice import Spice
    except ImportError:
        raise MissingExtraError(f"{name} needs pycocoevalcap: pip install pycocoevalcap") from None
    written = [n for n, text in enumerate(candidates) if text]
    if not written:
        return 0.0
    try:
        scorer: Any = Meteor() if name == "meteor" else Spice()
        _, scores = scorer.compute_score({n: references[n] for n in written}, {n: [candidates[n]] for n in written})
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} failed ({' '.join(str(error).split())[:200]}).") from None
    values = [score["All"]["f"] if isinstance(score, dict) else score for score in scores]
    return float(np.sum(values)) / len(candidates)

"""Caption metrics that exist only as Java programs: METEOR and SPICE, through pycocoevalcap."""

import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.errors import ConfigError, MissingExtraError
from lhrs.metrics.captioning import tokenize

JAVA = ("meteor", "spice")


def java_score(candidates: Sequence[str], references: Sequence[Sequence[str]], name: str) -> float:
    """Return METEOR (Denkowski and Lavie 2014) or SPICE (Anderson et al. 2016) of captions, 0-1.

    Args:
        candidates: one caption each; empty ones have 0.
        references: one or more each.
        name: one of `JAVA`. SPICE downloads its parser's models on first use.

    Raises:
        ConfigError: there is no such metric, no Java, or the program fails.
        MissingExtraError: pycocoevalcap is not installed.
    """
    if name not in JAVA:
        raise ConfigError(f"there is no metric {name!r} beside BLEU, ROUGE-L and CIDEr; known: {', '.join(JAVA)}.")
    if shutil.which("java") is None:
        raise ConfigError(f"{name} is a Java program and there is no `java` here: install a Java runtime.")
    try:
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.spice.spice import Spice
    except ImportError:
        raise MissingExtraError(f"{name} needs pycocoevalcap: pip install pycocoevalcap") from None
    said = [" ".join(tokenize(text)) for text in candidates]
    known = [[" ".join(tokenize(text)) for text in group] for group in references]
    asked = [n for n, text in enumerate(said) if text]
    if not asked:
        return 0.0
    try:
        scorer: Any = Meteor() if name == "meteor" else Spice()
        _, scores = scorer.compute_score({n: known[n] for n in asked}, {n: [said[n]] for n in asked})
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} failed ({' '.join(str(error).split())[:200]}).") from None
    values = [one["All"]["f"] if isinstance(one, dict) else one for one in scores]
    return float(np.sum(values)) / len(said)

"""What the tasks need from a model, however it runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Request:
    """One question about one image."""

    pixels: np.ndarray | None
    """uint8 `(H, W, 3)`, any size; None asks without an image. Requests that hold the same array share its encoding."""
    question: str
    options: tuple[str, ...] | None = None
    """When given, the answer is exactly one of these texts."""
    max_new_tokens: int = 112


@dataclass(frozen=True)
class Reply:
    """What the model said."""

    text: str
    """Decoded answer without the end token; location tokens stay in the text."""
    token_texts: tuple[str, ...]
    """The answer token by token, without the end token."""
    probabilities: tuple[float, ...]
    """Probability of each chosen token, the end token last; under options, among the allowed tokens only."""
    features: np.ndarray | None = field(default=None, repr=False)
    """Pooled encoder features `(C,)`, for runtimes that can tell familiar images from strange ones."""

    @property
    def sequence_probability(self) -> float:
        """Probability of the whole answer, 0-1."""
        return float(np.prod(self.probabilities))

    @property
    def mean_probability(self) -> float:
        """Geometric mean of the token probabilities, 0-1; for long answers."""
        return float(np.exp(np.mean(np.log(np.maximum(self.probabilities, 1e-12)))))


class Runtime(Protocol):
    """A loaded model."""

    name: str
    """What `model` says in answers."""
    box_style: str
    """Text form of boxes (`lhrs.boxes`)."""

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Answer requests greedily, in order; the same answers whatever the batch."""
        ...

    def unfamiliar(self, features: np.ndarray | None) -> bool:
        """Tell whether an image looks unlike everything the model was trained on; False where it cannot tell."""
        ...

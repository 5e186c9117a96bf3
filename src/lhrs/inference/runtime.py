"""The runtime interface of models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from lhrs.boxes import Size
from lhrs.inference.model_family import ModelFamily

AnswerType = Literal["text", "number", "boxes", "query"]


@dataclass(frozen=True)
class Sampling:
    """Token sampling that depends only on these numbers and the step."""

    temperature: float
    seed: int
    index: int = 0
    """Position of the request among all requests of a run."""

    def noise(self, step: int, vocabulary: int) -> np.ndarray:
        """Return Gumbel noise `(vocabulary,)`; the argmax of logits / temperature + noise is a fair sample."""
        return np.random.default_rng([self.seed, self.index, step]).gumbel(size=vocabulary) * self.temperature


@dataclass(frozen=True)
class Request:
    """One question about images."""

    images: tuple[np.ndarray, ...]
    """uint8 `(H, W, 3)`, any size; none or several. Requests that hold the same array share its encoding."""
    question: str
    options: tuple[str, ...] | None = None
    """The answer is exactly one of these texts; None allows any."""
    answer_type: AnswerType = "text"
    """Type of the answer. "query" is for models that write queries, see `lhrs.perception.query`. It excludes
    `options`."""
    max_new_tokens: int = 112
    sampling: Sampling | None = None
    """Token sampling; None is greedy decoding."""
    history: tuple[tuple[str, str], ...] = ()
    """Previous (question, answer) pairs about the same images, for models that were trained on conversations."""
    option_texts: tuple[str, ...] = ()
    """What each of `options` stands for, where it is a letter; empty if they stand for themselves."""
    query: str | None = None
    """What is asked as the text of a query, where it is known; models with dense heads then need not read the
    question."""
    gsd_m: float | None = None
    """Meters per pixel of the first image; None is unknown."""
    on_text: Callable[[str], None] | None = field(default=None, compare=False, repr=False)
    """Receives the text deltas of the answer; several requests of a batch may be streamed."""


@dataclass(frozen=True)
class Generation:
    """A model's answer to a request."""

    text: str
    """Decoded answer without the end token; special tokens stay in the text."""
    token_texts: tuple[str, ...]
    """The answer token by token, without the end token."""
    probabilities: tuple[float, ...]
    """Probability of each chosen token, the end token last; under options, among the allowed tokens only. Empty where a
    server returns none."""
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    """Boxes in the answer, `(N, 4)` xyxy as fractions of the first image (0-1)."""
    prompt_tokens: int = 0
    """Tokens that the model read for it, images included; 0 where a server returns none."""
    out_of_distribution: bool = False
    """Whether the first image is unlike the training images; False without a detector."""
    box_labels: tuple[str, ...] = ()
    """Label of each box; empty where the question names them all."""
    box_scores: tuple[float, ...] = ()
    """Probability of each box, 0-1; empty where the tokens have it."""
    resized_wh: Size | None = None
    """Size in pixels to which the first image was resized; None where it is unknown."""

    @property
    def sequence_probability(self) -> float | None:
        """Probability of the whole answer, 0-1."""
        return float(np.prod(self.probabilities)) if self.probabilities else None

    @property
    def mean_probability(self) -> float | None:
        """Geometric mean of the token probabilities, 0-1; for long answers."""
        if not self.probabilities:
            return None
        return float(np.exp(np.mean(np.log(np.maximum(self.probabilities, 1e-12)))))


class Runtime(Protocol):
    """A loaded model."""

    name: str
    """Name of the model in answers."""
    family: ModelFamily
    """The family of the model: prompts and box format."""

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        """Answer requests in order. Answers do not depend on the batch.

        `on_text` receives the text deltas of a single request; see also `Request.on_text`.
        """
        ...

    def ood_score(self, pixels: np.ndarray) -> float | None:
        """Return the distance of an image from the training distribution; None without a detector."""
        ...

    @property
    def ood_threshold(self) -> float | None:
        """Scores above it are out of distribution."""
        ...

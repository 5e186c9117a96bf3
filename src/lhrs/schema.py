"""The records that everything exchanges: samples to learn from and answers given. Pydantic, no torch, no pixels.

Boxes are xyxy in pixels of the original image (a photograph turned upright as its EXIF says): x right, y down, (0, 0)
the outer corner of the top-left pixel.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

IMAGE_PLACEHOLDER = "<image>"
"""Where an image stands in a user's text. Texts without any have all images before the first user turn."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
XYXY = tuple[Finite, Finite, Finite, Finite]


class _Record(BaseModel):
    """Strict: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(_Record):
    """A labeled box on an image.

    The numbers are not judged here, so that data with mistakes can be read and `lhrs data lint` can name them.
    """

    label: str
    xyxy: XYXY
    """Pixels of the original image."""
    confidence: Fraction | None = None
    crowd: bool = False
    """The box is around a group of objects, not one (COCO's `iscrowd`)."""


class Turn(_Record):
    """What one side says."""

    role: Literal["user", "assistant", "system"]
    text: str
    boxes: list[Box] = []
    """Boxes that the text speaks of, in its order; on the sample's first image."""


class Sample(_Record):
    """A conversation about images, or images with labels or boxes from which conversations can be made."""

    id: NonEmpty
    """The same on every machine, and unique in its source."""
    images: list[NonEmpty] = []
    """Paths, in the order in which the conversation meets them."""
    turns: list[Turn] = []
    labels: list[str] = []
    """Scene classes of the first image."""
    boxes: list[Box] = []
    """Objects on the first image."""
    source: NonEmpty
    """The data set this comes from."""
    license: NonEmpty
    """SPDX identifier where there is one, else what the source states."""
    split: str | None = None
    attribution: str | None = None
    """The credit that the license asks for."""
    task: str | None = None
    """What is asked, in the source's terms: RSVQA's `count`, `presence`, `comp`, `rural_urban`, `area`; `caption`."""

    @model_validator(mode="after")
    def _says_something(self) -> "Sample":
        if not self.images and not self.turns:
            raise ValueError(f"sample {self.id!r} has neither images nor turns")
        return self


class AnswerBox(_Record):
    """A box in an answer, with where it lies on the Earth."""

    label: str
    xyxy: XYXY
    """Pixels of the image that was asked about."""
    lonlat: list[tuple[Finite, Finite]] | None = None
    """Ring of (longitude, latitude), WGS 84 degrees, around the box; None if the image is not georeferenced."""
    confidence: Fraction | None = None


class Rendering(_Record):
    """What the model was shown of the file."""

    bands: list[int]
    """1-based bands shown as red, green and blue."""
    scaling: str
    """How their values became eight bits, for people."""


class Answer(_Record):
    """One answer, as `lhrs ask --json` prints it."""

    image: str
    """Path as the user gave it."""
    question: str
    answer: str
    confidence: Fraction | None = None
    """From the probabilities of the answer's tokens; None where a server does not tell them."""
    boxes: list[AnswerBox] = []
    rendering: Rendering
    model: str
    out_of_distribution: bool
    """The image is unlike anything that the model was trained on."""

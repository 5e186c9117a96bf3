"""Records shared by all packages: training samples and answers. Pydantic, no torch, no pixels.

Boxes are xyxy in pixels of the original image, after its EXIF orientation is applied: x right, y down, (0, 0) the outer
corner of the top-left pixel.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

IMAGE_PLACEHOLDER = "<image>"
"""Position of an image in a user's text. Without any, all images come before the first user turn."""

BOX_PLACEHOLDER = "<box>"
"""Position of a box in a turn's text, one for each of its boxes. Without any, the boxes come after the text."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
XY = tuple[Finite, Finite]
XYXY = tuple[Finite, Finite, Finite, Finite]


class _Record(BaseModel):
    """Base of all records: unknown keys are refused, records are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(_Record):
    """A labeled box on an image.

    Coordinates are not validated here, so that `lhrs data lint` can read faulty data and report it.
    """

    label: str
    xyxy: XYXY
    """Pixels of the original image."""
    corners: tuple[XY, XY, XY, XY] | None = None
    """Of an oriented box, in order around it, in pixels; `xyxy` is then the box around them."""
    confidence: Fraction | None = None
    crowd: bool = False
    """The box is around a group of objects, not one (COCO's `iscrowd`)."""


class Turn(_Record):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    text: str
    boxes: list[Box] = []
    """Boxes that the text mentions, in its order, on the sample's first image; see `BOX_PLACEHOLDER`."""


class Sample(_Record):
    """A conversation about images, or images with labels or boxes from which conversations can be made."""

    id: NonEmpty
    """Unique in its source, and the same on every machine."""
    images: list[NonEmpty] = []
    """Paths, in the order of the conversation."""
    turns: list[Turn] = []
    labels: list[str] = []
    """Scene classes of the first image."""
    boxes: list[Box] = []
    """Objects on the first image."""
    source: NonEmpty
    """Name of the dataset."""
    license: NonEmpty
    """SPDX identifier if there is one, else the license as the source states it."""
    split: str | None = None
    attribution: str | None = None
    """Attribution that the license requires."""
    task: str | None = None
    """Task in the source's terms: `caption`, or RSVQA's `count`, `presence`, `comp`, `rural_urban`, `area`."""

    @model_validator(mode="after")
    def _check_not_empty(self) -> "Sample":
        if not self.images and not self.turns:
            raise ValueError(f"sample {self.id!r} has neither images nor turns")
        return self


class AnswerBox(_Record):
    """A box in an answer, with its location on the Earth."""

    label: str
    xyxy: XYXY
    """Pixels of the original image."""
    lonlat: list[tuple[Finite, Finite]] | None = None
    """Ring of (longitude, latitude), WGS 84 degrees, around the box; None if the image is not georeferenced."""
    confidence: Fraction | None = None


class Rendering(_Record):
    """How a file was rendered for the model."""

    bands: list[int]
    """1-based bands rendered as red, green and blue."""
    scaling: str
    """How their values were scaled to 8 bits, as text."""
    size: tuple[int, int] | None = None
    """(width, height) in pixels of what the model got."""
    image_size: tuple[int, int] | None = None
    """(width, height) in pixels of the image, or of the part of it that was read."""


class Answer(_Record):
    """One answer, as `lhrs ask --json` prints it."""

    image: str
    """Path as the user specified it."""
    question: str
    answer: str
    confidence: Fraction | None = None
    """Probability of a short answer or an option, mean token probability of a sentence or boxes; None if a server
    reports none."""
    boxes: list[AnswerBox] = []
    rendering: Rendering
    model: str
    out_of_distribution: bool
    """The image is unlike anything that the model was trained on."""

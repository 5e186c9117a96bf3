"""What a client may send to `/v1/chat/completions`: OpenAI's fields as far as the models go, and `lhrs`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lhrs.schema import Finite

Text = Annotated[str, StringConstraints(max_length=200_000)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
CRS = Annotated[str, StringConstraints(pattern=r"^(EPSG:[0-9]{4,6}|OGC:CRS84)$")]
"""By number only: other spellings may name files and addresses."""


class _Given(BaseModel):
    """What is not known is refused, so that nobody relies on what is not done."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Given):
    """Words."""

    type: Literal["text"]
    text: Text


class ImageURL(_Given):
    """`data:` with the image in base64, or `http(s)` where the operator allows the host."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"
    """Accepted for compatibility: the image is always looked at as closely as the model can."""


class ImagePart(_Given):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageURL


class FileRef(_Given):
    """An uploaded file, or one inside the request."""

    file_id: Annotated[str, StringConstraints(max_length=100)] | None = None
    file_data: str | None = None
    """A `data:` URL."""
    filename: Annotated[str, StringConstraints(max_length=300)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "FileRef":
        if (self.file_id is None) == (self.file_data is None):
            raise ValueError("give either file_id or file_data")
        return self


class FilePart(_Given):
    """An image in a file."""

    type: Literal["file"]
    file: FileRef


Part = Annotated[TextPart | ImagePart | FilePart, Field(discriminator="type")]


class SystemMessage(_Given):
    """How to answer."""

    role: Literal["system", "developer"]
    content: Text | list[TextPart]
    name: Text | None = None


class UserMessage(_Given):
    """A question."""

    role: Literal["user"]
    content: Text | list[Part]
    name: Text | None = None


class AssistantMessage(_Given):
    """An earlier answer."""

    role: Literal["assistant"]
    content: Text | list[TextPart] | None = None
    refusal: Text | None = None
    name: Text | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class StreamOptions(_Given):
    """What else a stream tells."""

    include_usage: bool = False
    include_obfuscation: bool = False


class PlainText(_Given):
    """No form."""

    type: Literal["text"]


class NamedSchema(_Given):
    """A JSON schema with its name."""

    name: Text
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None


class JsonSchema(_Given):
    """An object with one property; see `lhrs.serving.response_format`."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class LHRSFields(_Given):
    """What OpenAI's API has no field for."""

    task: Literal["ask", "caption", "classify", "ground", "count"] | None = None
    """Let the server word the question as the model was taught; None sends the user's text as it is."""
    labels: Annotated[list[Label], Field(min_length=2, max_length=1000)] | None = None
    """Of `classify`, and of `ask`: the answer is exactly one of them."""
    expression: Label | None = None
    """Of `ground`: what to find."""
    thing: Label | None = None
    """Of `count`: what to count."""
    bbox: tuple[Finite, Finite, Finite, Finite] | None = None
    """West, south, east, north in `crs`: look at this part of the (georeferenced) image only."""
    crs: CRS = "EPSG:4326"
    """Of `bbox` and of the answer's GeoJSON; longitude or easting first."""


class ChatRequest(_Given):
    """A conversation to go on with."""

    model: Annotated[str, StringConstraints(max_length=300)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Annotated[PlainText | JsonSchema, Field(discriminator="type")] | None = None
    lhrs: LHRSFields = LHRSFields()

    # Accepted where it asks for what is done anyway.
    n: Literal[1] | None = None
    top_p: Annotated[float, Field(ge=1, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    store: Literal[False] | None = None
    user: Text | None = None
    metadata: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fits(self) -> "ChatRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        if self.lhrs.task is not None and isinstance(self.response_format, JsonSchema):
            raise ValueError("lhrs.task decides the form of the answer: leave response_format out")
        for field, tasks in (("labels", ("ask", "classify")), ("expression", ("ground",)), ("thing", ("count",))):
            if getattr(self.lhrs, field) is not None and self.lhrs.task not in tasks:
                raise ValueError(f"lhrs.{field} needs lhrs.task {' or '.join(map(repr, tasks))}")
        return self


Image = ImagePart | FilePart


def conversation(messages: list[Message]) -> tuple[str | None, list[tuple[str, str]], str, list[Image]]:
    """Return system text, earlier (question, answer) pairs, the last question, and all images in reading order.

    Raises:
        ValueError: the turns are not those of a conversation that a user has the word in.
    """
    system: list[str] = []
    pairs: list[tuple[str, str]] = []
    images: list[Image] = []
    said: list[str] | None = None
    for message in messages:
        parts = message.content if isinstance(message.content, list) else []
        text = message.content if isinstance(message.content, str) else "\n".join(
            part.text for part in parts if isinstance(part, TextPart)
        )  # fmt: skip
        if isinstance(message, SystemMessage):
            system.append(text)
        elif isinstance(message, UserMessage):
            said = [*(said or []), text]
            images += [part for part in parts if not isinstance(part, TextPart)]
        elif said is not None:
            answer = text or (message.refusal or "")
            pairs.append(("\n".join(filter(None, said)), answer))
            said = None
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}\n{text}")
        else:
            raise ValueError("the first turn is the assistant's; begin with the user's")
    if said is None:
        raise ValueError("the last message must be the user's")
    return "\n".join(system) or None, pairs, "\n".join(filter(None, said)), images

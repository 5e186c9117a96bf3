"""The request body of `/v1/chat/completions`: OpenAI's fields, and the extension field `lhrs`.

An unsupported field is accepted if it is null, empty or at its default. Otherwise it is rejected, and the error names
it.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lhrs.schema import Finite

Text = Annotated[str, StringConstraints(max_length=200_000)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Name = Annotated[str, StringConstraints(max_length=100, pattern=r"^[\w .+-]+$")]
CRS = Annotated[str, StringConstraints(pattern=r"^(EPSG:[0-9]{4,6}|OGC:CRS84)$")]
"""EPSG codes only: other forms may refer to files and URLs."""


def _only(*neutral: Any, reason: str = "is not supported") -> AfterValidator:
    """Return a validator that accepts values without an effect and rejects all others."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(neutral_value) and value == neutral_value for neutral_value in (None, *neutral)):
            raise PydanticCustomError("unsupported_value", "{reason}: leave it out", {"reason": reason})
        return value

    return AfterValidator(check)


def _kind(field: str, kinds: dict[str, str], message: str) -> Discriminator:
    """Return a discriminator by one field; `kinds` maps its values to tags."""

    def tag(value: Any) -> str | None:
        kind = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        return kinds.get(kind) if isinstance(kind, str) else None

    return Discriminator(tag, custom_error_type="unsupported_value", custom_error_message=message)


def _text_or_list(value: Any) -> str | None:
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else None


_CONTENT = Discriminator(
    _text_or_list, custom_error_type="invalid_value", custom_error_message="must be text or a list of parts"
)


class _Body(BaseModel):
    """Null fields are treated as missing; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name in required}


class TextPart(_Body):
    """Text of a message."""

    type: Literal["text", "input_text", "output_text"]
    text: Text
    annotations: Annotated[Any, _only([])] = None
    logprobs: Annotated[Any, _only([])] = None


class ImageURL(_Body):
    """A base64 `data:` URL, or an `http(s)` URL of a host that the operator allows."""

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"
    """Accepted for compatibility: images are always read at the model's resolution."""


class ImagePart(_Body):
    """An image: `image_url` of Chat Completions, as an object or as text, or `input_image` of Responses."""

    type: Literal["image_url", "input_image"]
    image_url: ImageURL | None = None
    file_id: Annotated[str, StringConstraints(max_length=100)] | None = None
    """Of `input_image`: an uploaded file."""
    detail: Literal["auto", "low", "high", "original"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("image_url"), str):
            return {**data, "image_url": {"url": data["image_url"]}}
        return data

    @model_validator(mode="after")
    def _has_one(self) -> "ImagePart":
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("give image_url" if self.type == "image_url" else "give either image_url or file_id")
        return self

    @property
    def source(self) -> tuple[str | None, str | None]:
        """The id of an uploaded file, or a URL."""
        return self.file_id, None if self.image_url is None else self.image_url.url

    @property
    def field(self) -> str:
        """The field that contains the image."""
        return "file_id" if self.image_url is None else "image_url"


class FileRef(_Body):
    """An uploaded file, or one inside the request."""

    file_id: Annotated[str, StringConstraints(max_length=100)] | None = None
    file_data: str | None = None
    """A `data:` URL."""
    filename: Annotated[str, StringConstraints(max_length=300)] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> "FileRef":
        if (self.file_id is None) == (self.file_data is None):
            raise ValueError("give either file_id or file_data")
        return self


class FilePart(_Body):
    """An image in a file: `file` of Chat Completions, or `input_file` of Responses."""

    type: Literal["file", "input_file"]
    file: FileRef

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") == "input_file" and "file" not in data:
            return {"type": "input_file", "file": {name: value for name, value in data.items() if name != "type"}}
        return data

    @property
    def source(self) -> tuple[str | None, str | None]:
        """The id of an uploaded file, or a `data:` URL."""
        return self.file.file_id, self.file.file_data

    @property
    def field(self) -> str:
        """The field that contains the image."""
        return "file"


_TEXT_PARTS = dict.fromkeys(("text", "input_text", "output_text"), "text")
_PARTS = {**_TEXT_PARTS, "image_url": "image", "input_image": "image", "file": "file", "input_file": "file"}
Part = Annotated[
    Annotated[TextPart, Tag("text")] | Annotated[ImagePart, Tag("image")] | Annotated[FilePart, Tag("file")],
    _kind("type", _PARTS, "the type of a part must be text, image_url, input_image, file or input_file"),
]
WordsPart = Annotated[
    Annotated[TextPart, Tag("text")], _kind("type", _TEXT_PARTS, "only the user's messages hold images")
]
Words = Annotated[Annotated[Text, Tag("text")] | Annotated[list[WordsPart], Tag("list")], _CONTENT]
Content = Annotated[Annotated[Text, Tag("text")] | Annotated[list[Part], Tag("list")], _CONTENT]


class SystemMessage(_Body):
    """How to answer."""

    role: Literal["system", "developer"]
    content: Words
    name: Text | None = None


class UserMessage(_Body):
    """A question."""

    role: Literal["user"]
    content: Content
    name: Text | None = None


class AssistantMessage(_Body):
    """A previous answer, as client libraries store it."""

    role: Literal["assistant"]
    content: Words | None = None
    refusal: Text | None = None
    name: Text | None = None
    annotations: Annotated[Any, _only([])] = None
    audio: Annotated[Any, _only()] = None
    function_call: Annotated[Any, _only()] = None
    tool_calls: Annotated[Any, _only([])] = None
    reasoning: Any = None
    """Like `reasoning_content`, this is not part of the answer and is ignored."""
    reasoning_content: Any = None
    parsed: Any = None
    """The result of openai's `parse`; ignored."""


_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
Message = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")],
    _kind("role", _ROLES, "the role of a message must be system, developer, user or assistant"),
]


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class PlainText(_Body):
    """Any text."""

    type: Literal["text"]


class NamedSchema(_Body):
    """A JSON schema with its name."""

    name: Text
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None


class JsonSchema(_Body):
    """An object with one property; see `lhrs.serving.response_format`."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    Annotated[PlainText, Tag("text")] | Annotated[JsonSchema, Tag("json_schema")],
    _kind("type", {"text": "text", "json_schema": "json_schema"}, "the type must be text or json_schema"),
]


class LHRSFields(_Body):
    """Fields that OpenAI's API lacks."""

    task: Literal["ask", "caption", "classify", "ground", "count"] | None = None
    """The task whose prompt the server uses, as in training. Without a task, the user's text is sent unchanged."""
    labels: Annotated[list[Label], Field(min_length=2, max_length=1000)] | None = None
    """Of `classify`, and of `ask`: the answer is exactly one of them."""
    expression: Label | None = None
    """Of `ground`: what to find."""
    target: Label | None = None
    """Of `count`: what to count."""
    bbox: tuple[Finite, Finite, Finite, Finite] | None = None
    """West, south, east, north in `crs`: read this part of the (georeferenced) image only."""
    crs: CRS = "EPSG:4326"
    """Of `bbox` and of the answer's GeoJSON; longitude or easting first."""
    sensor: Name | None = None
    """The images' sensor, as `lhrs scene --list-sensors` prints it; by default it is detected."""
    composite: Name | None = None
    """The sensor's band composite to render, such as `swir`."""
    gsd_m: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Meters per pixel at which the images are rendered; by default the file's own."""


class ChatRequest(_Body):
    """A conversation whose next answer is wanted."""

    model: Annotated[str, StringConstraints(max_length=300)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The older name of `max_completion_tokens`, which has priority."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    response_format: ResponseFormat | None = None
    lhrs: LHRSFields = LHRSFields()

    # Accepted without an effect on the answer.
    user: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    prompt_cache_retention: Text | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Text | None = None
    store: bool = False
    """Nothing is stored: `true` is reported among the ignored fields."""

    # These have no effect at a temperature of 0 (greedy decoding).
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: int | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None

    # Not supported: accepted only if they have no effect.
    n: Annotated[Any, _only(1, reason="must be 1")] = None
    stop: Annotated[Any, _only([], "")] = None
    tools: Annotated[Any, _only([], reason="is not supported, the models answer in text")] = None
    tool_choice: Annotated[Any, _only("none", "auto")] = None
    parallel_tool_calls: Annotated[Any, _only(True, False)] = None
    functions: Annotated[Any, _only([])] = None
    function_call: Annotated[Any, _only("none", "auto")] = None
    logit_bias: Annotated[Any, _only({})] = None
    presence_penalty: Annotated[Any, _only(0, 0.0)] = None
    frequency_penalty: Annotated[Any, _only(0, 0.0)] = None
    repetition_penalty: Annotated[Any, _only(1, 1.0)] = None
    modalities: Annotated[Any, _only([], ["text"])] = None
    audio: Annotated[Any, _only()] = None
    prediction: Annotated[Any, _only()] = None
    web_search_options: Annotated[Any, _only()] = None
    reasoning_effort: Annotated[Any, _only("none", "minimal", reason="is not supported, the models do not reason")] = (
        None
    )
    verbosity: Annotated[Any, _only("medium")] = None
    chat_template_kwargs: Annotated[Any, _only({}, {"enable_thinking": False})] = None

    @field_validator("top_p", "top_k", "min_p")
    @classmethod
    def _check_sampling(cls, value: float | None, info: ValidationInfo) -> float | None:
        neutral = {"top_p": (None, 1), "top_k": (None, 0, -1), "min_p": (None, 0)}[info.field_name or ""]
        if info.data.get("temperature", 0) > 0 and value not in neutral:
            raise ValueError("is not supported with a temperature above 0: leave it out")
        return value

    @model_validator(mode="after")
    def _check_fields(self) -> "ChatRequest":
        if self.stream_options is not None and self.stream_options.include_usage and not self.stream:
            raise ValueError("stream_options.include_usage needs stream")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs")
        if self.lhrs.task is not None and isinstance(self.response_format, JsonSchema):
            raise ValueError("lhrs.task decides the form of the answer: leave response_format out")
        for field, tasks in (("labels", ("ask", "classify")), ("expression", ("ground",)), ("target", ("count",))):
            if getattr(self.lhrs, field) is not None and self.lhrs.task not in tasks:
                raise ValueError(f"lhrs.{field} needs lhrs.task {' or '.join(map(repr, tasks))}")
        return self

    @property
    def token_limit(self) -> int | None:
        """The maximum number of tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens


Image = ImagePart | FilePart


def conversation(messages: list[Message]) -> tuple[str | None, list[tuple[str, str]], str, dict[str, Image]]:
    """Return the system text, the previous (question, answer) pairs, the last question, and the images by field.

    Raises:
        ValueError: the messages are not a conversation that ends with a question.
    """
    system: list[str] = []
    pairs: list[tuple[str, str]] = []
    images: dict[str, Image] = {}
    question: list[str] | None = None
    for n, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else []
        text = message.content if isinstance(message.content, str) else "\n".join(
            part.text for part in parts if isinstance(part, TextPart)
        )  # fmt: skip
        if isinstance(message, SystemMessage):
            system.append(text)
        elif isinstance(message, UserMessage):
            question = [*(question or []), text]
            images |= {
                f"messages.{n}.content.{k}.{part.field}": part
                for k, part in enumerate(parts)
                if not isinstance(part, TextPart)
            }
        elif question is not None:
            answer = text or (message.refusal or "")
            pairs.append(("\n".join(filter(None, question)), answer))
            question = None
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]}\n{text}")
        else:
            raise ValueError("the first message is the assistant's; begin with the user's")
    if question is None:
        raise ValueError("the last message must be the user's")
    return "\n".join(system) or None, pairs, "\n".join(filter(None, question)), images

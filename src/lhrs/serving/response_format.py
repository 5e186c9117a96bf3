"""Structured output: the JSON schemas that constrained decoding supports."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from lhrs.inference.runtime import AnswerType
from lhrs.schema import Answer

_KNOWN = (
    'an object with one property that is {"type": "string", "enum": [...]}, {"type": "boolean"}, {"type": "integer"}, '
    'or {"type": "array", "items": {"type": "array", "items": {"type": "number"}}} (boxes)'
)
_ANNOTATIONS = {"title", "description", "$schema", "strict"}
_YES_NO = ("yes", "no")


@dataclass(frozen=True)
class AnswerSchema:
    """An object with one property."""

    key: str
    kind: Literal["option", "boolean", "number", "boxes"]
    options: tuple[str, ...] | None = None

    @property
    def answer_type(self) -> AnswerType:
        """The constraint on the model's answer."""
        return self.kind if self.kind in ("number", "boxes") else "text"  # type: ignore[return-value]

    def write(self, answer: Answer, boxes: list[dict[str, Any]]) -> str | None:
        """Return an answer as JSON; None if it does not match.

        Args:
            answer: of the model.
            boxes: of the answer, from `whole_boxes`; written as [x1, y1, x2, y2].
        """
        if self.kind == "boxes":
            value: Any = [[round(v, 1) for v in box["xyxy"]] for box in boxes]
        elif self.kind == "number":
            if not answer.answer.isdecimal():
                return None
            value = int(answer.answer)
        else:
            value = answer.answer == _YES_NO[0] if self.kind == "boolean" else answer.answer
        return json.dumps({self.key: value}, ensure_ascii=False)


def read_answer_schema(schema: dict[str, Any]) -> AnswerSchema:
    """Return the response format of a JSON schema.

    Raises:
        ValueError: the schema is not supported.
    """
    properties, definitions = schema.get("properties"), schema.get("$defs", {})
    if (
        schema.get("type") != "object"
        or not isinstance(properties, dict)
        or len(properties) != 1
        or set(schema) - _ANNOTATIONS - {"type", "properties", "required", "additionalProperties", "$defs"}
    ):
        raise ValueError(f"only {_KNOWN} can be promised")
    ((key, value),) = properties.items()
    if isinstance(value, dict) and isinstance(value.get("$ref"), str) and isinstance(definitions, dict):
        value = definitions.get(value["$ref"].removeprefix("#/$defs/"))  # pydantic's reference to an Enum
    if not isinstance(value, dict) or schema.get("required") not in (None, [], [key]):
        raise ValueError(f"only {_KNOWN} can be promised")
    keys = set(value) - _ANNOTATIONS
    options = value.get("enum")
    if options is not None and keys <= {"type", "enum"} and value.get("type", "string") == "string":
        if not isinstance(options, list) or not all(isinstance(o, str) for o in options) or len(options) > 1000:
            raise ValueError("enum must be a list of at most 1000 strings")
        return AnswerSchema(key, "option", tuple(options))
    if value.get("type") == "boolean" and keys == {"type"}:
        return AnswerSchema(key, "boolean", _YES_NO)
    if value.get("type") == "integer" and keys <= {"type", "minimum"} and value.get("minimum", 0) == 0:
        return AnswerSchema(key, "number")
    if value.get("type") == "array" and keys <= {"type", "items", "minItems", "maxItems"}:
        inner = value.get("items")
        if isinstance(inner, dict) and inner.get("type") == "array":
            number = inner.get("items")
            if isinstance(number, dict) and number.get("type") in ("number", "integer"):
                return AnswerSchema(key, "boxes")
    raise ValueError(f"only {_KNOWN} can be promised")

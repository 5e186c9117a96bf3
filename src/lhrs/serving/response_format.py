"""The answers that a JSON schema allows, as far as the models can be held to them."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from lhrs.schema import Answer

_KNOWN = (
    'an object with one property that is {"type": "string", "enum": [...]}, {"type": "integer"}, or '
    '{"type": "array", "items": {"type": "array", "items": {"type": "number"}}} (boxes)'
)
_BESIDE = {"title", "description", "$schema", "strict"}


@dataclass(frozen=True)
class AnswerSchema:
    """An object with one property."""

    key: str
    kind: Literal["option", "number", "boxes"]
    options: tuple[str, ...] | None = None

    def write(self, answer: Answer, boxes: list[dict[str, Any]]) -> str | None:
        """Return an answer as JSON, its boxes, from `whole_boxes`, as [x1, y1, x2, y2]; None if it has another form."""
        if self.kind == "boxes":
            value: Any = [[round(v, 1) for v in box["xyxy"]] for box in boxes]
        elif self.kind == "number":
            if not answer.answer.isdecimal():
                return None
            value = int(answer.answer)
        else:
            value = answer.answer
        return json.dumps({self.key: value}, ensure_ascii=False)


def read_answer_schema(schema: dict[str, Any]) -> AnswerSchema:
    """Return the form that a JSON schema describes.

    Raises:
        ValueError: the models cannot be held to it.
    """
    properties = schema.get("properties")
    if (
        schema.get("type") != "object"
        or not isinstance(properties, dict)
        or len(properties) != 1
        or set(schema) - _BESIDE - {"type", "properties", "required", "additionalProperties"}
    ):
        raise ValueError(f"only {_KNOWN} can be promised")
    ((key, value),) = properties.items()
    if not isinstance(value, dict) or schema.get("required") not in (None, [], [key]):
        raise ValueError(f"only {_KNOWN} can be promised")
    keys = set(value) - _BESIDE
    options = value.get("enum")
    if options is not None and keys <= {"type", "enum"} and value.get("type", "string") == "string":
        if not isinstance(options, list) or not all(isinstance(o, str) for o in options) or len(options) > 1000:
            raise ValueError("enum must be a list of at most 1000 strings")
        return AnswerSchema(key, "option", tuple(options))
    if value.get("type") == "integer" and keys <= {"type", "minimum"} and value.get("minimum", 0) == 0:
        return AnswerSchema(key, "number")
    if value.get("type") == "array" and keys <= {"type", "items", "minItems", "maxItems"}:
        inner = value.get("items")
        if isinstance(inner, dict) and inner.get("type") == "array":
            number = inner.get("items")
            if isinstance(number, dict) and number.get("type") in ("number", "integer"):
                return AnswerSchema(key, "boxes")
    raise ValueError(f"only {_KNOWN} can be promised")

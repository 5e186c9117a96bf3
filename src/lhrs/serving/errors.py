"""Refusals in the form of OpenAI's API."""

import json
from typing import Any

from pydantic import ValidationError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_CODES = {
    "extra_forbidden": "unknown_parameter",
    "unsupported_value": "unsupported_parameter",
    "json_invalid": "invalid_json",
}
_OWN = ("value_error", "unsupported_value", "invalid_value")
"""Kinds of errors with a text of ours."""


class APIError(Exception):
    """Why a request is refused.

    Args:
        status: HTTP status.
        message: one line: what is wrong, and what to do.
        param: the field of the request that is to blame, `messages.0.content`.
        code: a name that programs can rely on.
        retry_s: seconds after which it is worth asking again.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_s = status, param, code, retry_s

    def at(self, field: str) -> "APIError":
        """Return the same error about another field, which the message names."""
        return APIError(self.status, f"{field}: {self}", field, self.code, self.retry_s)

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        headers = {} if self.retry_s is None else {"retry-after": str(self.retry_s)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def validation_error(error: ValidationError, body: bytes) -> APIError:
    """Return the first thing that pydantic found wrong, by the field's name in the body; values are not repeated."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    first = errors[0]
    field = _field(first["loc"], body, names_a_key=first["type"] in ("missing", "extra_forbidden"))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "is not a known field: leave it out"
    elif first["type"] == "missing":
        message = "is missing" if isinstance(first["loc"][-1], str) else "has too few values"
    elif first["type"] not in _OWN:
        message = message[:1].lower() + message[1:]
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    code = _CODES.get(first["type"], "invalid_value")
    return APIError(400, f"{field + ': ' if field else ''}{message}{more}"[:500], field or None, code)


def _field(loc: tuple[int | str, ...], body: bytes, names_a_key: bool) -> str:
    """Return where an error is in the body: pydantic's location without the names of its own types and branches.

    Args:
        loc: pydantic's.
        body: of the request.
        names_a_key: the last part of `loc` is a key, though the body may not have it.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    path: list[str] = []
    for n, part in enumerate(loc[:20]):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):  # a name of pydantic's own, or a key that the body lacks
            if n < len(loc) - 1 or not names_a_key or not isinstance(part, str):
                continue
        path.append(str(part)[:60])
    return ".".join(path)

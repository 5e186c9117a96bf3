"""Errors in the format of OpenAI's API."""

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
"""Error types of pydantic with a custom message."""


class APIError(Exception):
    """An error response.

    Args:
        status: HTTP status.
        message: one line: the problem and its solution.
        param: the invalid field of the request, such as `messages.0.content`.
        code: a stable, machine-readable name.
        retry_s: seconds after which the client should retry.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_s = status, param, code, retry_s

    def at(self, field: str) -> "APIError":
        """Return the same error for another field, which the message names."""
        return APIError(self.status, f"{field}: {self}", field, self.code, self.retry_s)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        headers = {} if self.retry_s is None else {"retry-after": str(self.retry_s)}
        return headers | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def validation_error(error: ValidationError, body: bytes) -> APIError:
    """Return pydantic's first validation error with the field's name in the body. The message omits values."""
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
    """Return the location of an error in the body: pydantic's, without the names of types and union branches.

    Args:
        loc: the location from pydantic.
        body: of the request.
        names_a_key: the last part of `loc` is a key, even if the body lacks it.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    path: list[str] = []
    for n, part in enumerate(loc[:20]):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):  # a name of a type or branch, or a key that the body lacks
            if n < len(loc) - 1 or not names_a_key or not isinstance(part, str):
                continue
        path.append(str(part)[:60])
    return ".".join(path)

"""Refusals, in the form in which OpenAI's API words them."""

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


class APIError(Exception):
    """Why a request is not answered.

    Args:
        status: HTTP status.
        message: one line: what is wrong, and what to do.
        param: the field of the request that is to blame, `messages.0.content`.
        code: a name that programs can rely on.
        retry_s: when it is worth asking again.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_s = status, param, code, retry_s

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        found = {} if self.retry_s is None else {"retry-after": str(self.retry_s)}
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def validation_error(error: ValidationError) -> APIError:
    """Return the first thing that pydantic found wrong; values of the request are not repeated."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = found[0]
    where = ".".join(str(part)[:60] for part in first["loc"][:8])
    more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
    code = "unknown_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
    if first["type"] == "json_invalid":
        code = "invalid_json"
    return APIError(400, f"{where + ': ' if where else ''}{first['msg']}{more}"[:500], where or None, code)

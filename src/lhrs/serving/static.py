"""The web page at `/`."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

_WEB = Path(__file__).parents[1] / "resources" / "web"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "worker-src blob:",  # MapLibre creates its worker from a blob
        "style-src 'self'",
        "img-src 'self' blob: data:",  # previews that are fetched with the key; icons in MapLibre's style
        "connect-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",  # revalidate: a new server version has a new page
}


class Page(StaticFiles):
    """The files of `resources/web`. Their content security policy allows only their own scripts and this server."""

    def __init__(self) -> None:
        super().__init__(directory=_WEB, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See starlette."""
        if scope["path"].startswith("/v1/"):
            raise HTTPException(404, "no such route: /v1 has chat/completions, models, files and scenes")
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response

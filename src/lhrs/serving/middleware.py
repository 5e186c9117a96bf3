"""What every request passes: who it is, whether it may, and how much it may send."""

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lhrs.serving.errors import APIError
from lhrs.serving.files import FORM
from lhrs.serving.logs import log
from lhrs.serving.service import Service

_CHAT = "/v1/chat/completions"
_FILES = "/v1/files"
_OPERATOR = {"/metrics", "/openapi.json"}
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_STALLED_S = 30.0
"""Longest pause between two parts of a body."""


class RequestGuard:
    """ASGI middleware.

    Args:
        app: what answers requests that pass.
        service: who knows the settings, and counts.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._settings = app, service, service.settings
        self._keys = [hashlib.sha256(key.encode()).digest() for key in service.settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        identity = given if _ID.fullmatch(given) else f"req-{secrets.token_hex(8)}"
        state = scope.setdefault("state", {})
        state.update(id=identity, owner="", jobs=[], log={})
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = [(b"x-request-id", identity.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        admitted = False
        try:
            state["owner"] = self._check(scope, headers)
            admitted = scope["path"] == _CHAT and scope["method"] == "POST"
            self._service.under_way += admitted
            await self._app(scope, self._limited(scope, headers, receive), tell)
        except APIError as problem:
            await JSONResponse(problem.body, problem.status, problem.headers)(scope, receive, tell)
        except Exception as error:  # the framework has told the client already, if it could
            log("failed", logging.ERROR, exc_info=error, request_id=identity)
            if not status:
                body = APIError(500, "something went wrong here; the log knows more").body
                await JSONResponse(body, 500)(scope, receive, tell)
        finally:
            self._service.under_way -= admitted
            for job in state["jobs"]:
                job.cancel()
            self._tell(scope, status or 499, begun, state)

    def _check(self, scope: Scope, headers: dict[str, str]) -> str:
        """Return who asks.

        Raises:
            Problem: this request is not for us.
        """
        path = scope["path"]
        if self._service.draining and path not in ("/health", "/metrics"):
            raise APIError(503, "the server is shutting down", code="shutting_down", retry_s=5)
        origin = headers.get("origin")
        if origin and origin not in self._settings.cors_origins and urlsplit(origin).netloc != headers.get("host"):
            raise APIError(403, "pages of other sites may not ask here", code="origin_not_allowed")
        owner = ""
        if not self._keys:
            self._check_host(headers.get("host", ""))
        elif path.startswith("/v1") or path in _OPERATOR:
            owner = self._owner(headers.get("authorization", ""))
        if path == _CHAT and self._service.under_way >= self._settings.queue:
            raise APIError(429, "too many requests are under way", code="queue_full", retry_s=self._service.wait_s())
        return owner

    def _check_host(self, host: str) -> None:
        """Refuse pages whose host name was bent to this machine (DNS rebinding), where nothing else protects it."""
        if self._settings.host in _LOCAL and urlsplit(f"//{host}").hostname not in _LOCAL:
            raise APIError(403, "without keys this server answers as localhost only", code="host_not_allowed")

    def _owner(self, authorization: str) -> str:
        kind, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("latin-1")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._keys]  # all of them, whichever fits
        if kind.lower() != "bearer" or not any(matches):
            raise APIError(401, "the API key is missing or wrong: Authorization: Bearer KEY", code="invalid_api_key")
        return hashlib.sha256(digest).hexdigest()[:16]

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive) -> Receive:
        upload = scope["path"] == _FILES
        limit = self._settings.max_file + FORM if upload else self._settings.max_body
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > limit:
            raise APIError(413, f"the request has more than {limit} bytes", code="request_too_large")
        read, over = 0, False

        async def limited() -> Message:
            nonlocal read, over
            if over:
                return await receive()  # only a disconnection can come
            try:
                message = await asyncio.wait_for(receive(), _STALLED_S)
            except TimeoutError:
                raise APIError(408, "the request's body stalled", code="timeout") from None
            read += len(message.get("body", b""))
            over = not message.get("more_body", False)
            if read > limit:
                raise APIError(413, f"the request has more than {limit} bytes", code="request_too_large")
            return message

        return limited

    def _tell(self, scope: Scope, status: int, begun: float, state: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - begun
        self._service.metrics.requests.labels(route, str(status)).inc()
        self._service.metrics.seconds.labels(route).observe(seconds)
        if route == "/health":
            return
        client = scope.get("client")
        log(
            "request",
            request_id=state["id"],
            method=scope["method"],
            route=route,
            status=status,
            ms=round(1000 * seconds, 1),
            client=client[0] if client else None,
            key=state["owner"] or None,
            **state["log"],
        )

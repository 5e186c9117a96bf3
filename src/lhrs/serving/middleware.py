"""Checks of every request before routing: API key, origin, host, load and size."""

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
from lhrs.serving.proxies import Via, find_via, parse_networks
from lhrs.serving.service import Service

_CHAT = "/v1/chat/completions"
_FILES = "/v1/files"
_OPERATOR = {"/metrics", "/openapi.json"}
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_STALLED_S = 30.0
"""Maximum time in seconds between two parts of a body."""


class RequestGuard:
    """ASGI middleware.

    Args:
        app: the wrapped application.
        service: holds the settings and the counters.

    Raises:
        ConfigError: a trusted proxy is not an IP address or network.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._settings = app, service, service.settings
        self._proxies = parse_networks(service.settings.trusted_proxies)
        self._keys = [hashlib.sha256(key.encode()).digest() for key in service.settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        wanted = headers.get("x-request-id", "")
        identity = wanted if _ID.fullmatch(wanted) else f"req-{secrets.token_hex(8)}"
        state = scope.setdefault("state", {})
        state.update(id=identity, owner="", jobs=[], log={}, via=find_via(scope, headers, self._proxies))
        # HEAD is handled like GET; uvicorn drops the body.
        inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        status = 0

        async def send_with_id(message: Message) -> None:
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
            await self._app(inner, self._limited(scope, headers, receive), send_with_id)
        except APIError as problem:
            await JSONResponse(problem.body, problem.status, problem.headers)(scope, receive, send_with_id)
        except Exception as error:  # the framework may have responded already
            log("failed", logging.ERROR, exc_info=error, request_id=identity)
            if not status:
                body = APIError(500, "internal error; see the server's log").body
                await JSONResponse(body, 500)(scope, receive, send_with_id)
        finally:
            self._service.under_way -= admitted
            for job in state["jobs"]:
                job.cancel()
            self._log(inner, status or 499, begun, state)

    def _check(self, scope: Scope, headers: dict[str, str]) -> str:
        """Return the owner of the request.

        Raises:
            APIError: the request is rejected.
        """
        path = scope["path"]
        if self._service.draining and path not in ("/health", "/metrics"):
            raise APIError(503, "the server is shutting down", code="shutting_down", retry_s=5)
        origin = headers.get("origin")
        via: Via = scope["state"]["via"]
        if origin and origin not in self._settings.cors_origins and not via.is_origin(origin):
            message = (
                "the page's Origin is not this server's Host: allow its site with --cors-origin, or behind a reverse "
                "proxy send X-Forwarded-Host and X-Forwarded-Proto and name the proxy with --trusted-proxy"
            )
            raise APIError(403, message, code="origin_not_allowed")
        owner = ""
        if not self._keys:
            self._check_host(headers.get("host", ""))
        elif path.startswith("/v1") or path in _OPERATOR:
            owner = self._owner(headers.get("authorization", ""))
        if path == _CHAT and self._service.under_way >= self._settings.max_pending:
            raise APIError(429, "too many requests are under way", code="queue_full", retry_s=self._service.wait_s())
        return owner

    def _check_host(self, host: str) -> None:
        """Reject DNS rebinding: pages whose host name resolves to this server. It applies to servers without keys.

        It also applies behind a proxy: a page in a local browser can set any other header.
        """
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if self._settings.host in _LOCAL and name not in _LOCAL:
            message = (
                "without API keys the Host header must be localhost: set LHRS_API_KEYS or --api-key-file, or let the "
                "reverse proxy send Host: localhost with X-Forwarded-Host (--trusted-proxy)"
            )
            raise APIError(403, message, code="host_not_allowed")

    def _owner(self, authorization: str) -> str:
        kind, _, key = authorization.partition(" ")
        digest = hashlib.sha256(key.strip().encode("latin-1")).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._keys]  # all keys, whichever matches
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
                return await receive()  # only a disconnect can follow
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

    def _log(self, scope: Scope, status: int, begun: float, state: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - begun
        self._service.metrics.requests.labels(route, str(status)).inc()
        self._service.metrics.seconds.labels(route).observe(seconds)
        if route == "/health":
            return
        log(
            "request",
            request_id=state["id"],
            method=scope["method"],
            route=route,
            status=status,
            ms=round(1000 * seconds, 1),
            client=state["via"].client,
            key=state["owner"] or None,
            **state["log"],
        )

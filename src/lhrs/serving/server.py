"""Run the application in uvicorn, with graceful shutdown."""

import asyncio
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from lhrs.errors import ConfigError
from lhrs.serving.app import make_app
from lhrs.serving.logs import configure_logging, log
from lhrs.serving.service import Service
from lhrs.serving.settings import Settings

if TYPE_CHECKING:
    from lhrs.inference.assistant import Assistant

LOCAL = ("127.0.0.1", "localhost", "::1")


class Server(uvicorn.Server):
    """Finishes the requests in progress after a first signal, and stops immediately after a second."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        super().__init__(
            uvicorn.Config(
                make_app(service),
                host=settings.host,
                port=settings.port,
                http="h11",  # limits the size of headers
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # see lhrs.serving.proxies
                limit_concurrency=settings.connections,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=5,
            )
        )
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn; called by signals."""
        if self.service.draining:
            super().handle_exit(sig, frame)
            return
        self.service.draining = True  # exit with 0: uvicorn would raise the signal again and skip exit handlers

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn; called ten times a second."""
        if self.service.draining and not self.should_exit:
            self._until = getattr(self, "_until", time.monotonic() + self.service.settings.grace_s)
            self.should_exit = not self.service.under_way or time.monotonic() > self._until
        return await super().on_tick(counter)

    async def startup(self, sockets: list | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            log("serving", url=f"http://{host}:{port}/v1", model=self.service.assistant.runtime.name)


def check(settings: Settings, no_auth: bool) -> None:
    """Reject a configuration that exposes a server without keys.

    Raises:
        ConfigError: a server without keys would be reachable from other machines.
    """
    if not settings.keys and settings.host not in LOCAL and not no_auth:
        raise ConfigError(
            f"--host {settings.host} without API keys would answer everyone: give --api-key-file or LHRS_API_KEYS, or "
            "--no-auth if that is meant."
        )


def serve(assistant: "Assistant", settings: Settings) -> None:
    """Serve until a signal stops the server."""
    configure_logging()
    asyncio.run(_serve(assistant, settings))


async def _serve(assistant: "Assistant", settings: Settings) -> None:
    await Server(Service(assistant, settings)).serve()

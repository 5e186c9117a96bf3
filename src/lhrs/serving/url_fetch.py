"""Download of images by URL, from hosts that the operator allows and never from private networks."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

import httpcore

from lhrs.serving.errors import APIError

Resolve = Callable[[str, int], Awaitable[list[str]]]
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


def is_public(address: str) -> bool:
    """Return whether an IP address is public, also where IPv6 carries an IPv4 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _NAT64):
            return False
        inside = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1]
        if inside is not None:
            return ip.ipv4_mapped is not None and is_public(str(inside))
        if int(ip) < 2**32:  # deprecated IPv4-compatible addresses
            return False
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in entries]


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects only to checked addresses. A name is resolved once, which prevents DNS rebinding."""

    def __init__(self, resolve: Resolve, allowed: Callable[[str], bool]) -> None:
        self._resolve, self._allowed = resolve, allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError(f"{host} is not known") from None
        if not addresses or not all(map(self._allowed, addresses)):
            raise httpcore.ConnectError(f"{host} is not on the open internet")
        return await self._network.connect_tcp(addresses[0], port, timeout, local_address, socket_options)


class URLFetcher:
    """Downloads images.

    Args:
        hosts: `host`, `host:port` or `*.domain`; ports are 80 and 443 unless named.
        max_bytes: of an image.
        timeout_s: from first to last byte.
        resolve: resolves names to addresses.
        allowed: returns whether an address may be connected to.
    """

    def __init__(
        self,
        hosts: Iterable[str],
        max_bytes: int,
        timeout_s: float,
        resolve: Resolve = resolve,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self._hosts, self._max_bytes, self._timeout_s = [h.lower() for h in hosts], max_bytes, timeout_s
        self._backend = _Checked(resolve, allowed)

    async def get(self, url: str) -> bytes:
        """Return the content of a URL; redirects are not followed.

        Raises:
            APIError: the URL is not allowed, or the download failed.
        """
        self._check(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(url)
        except TimeoutError:
            raise APIError(400, "the image's server is too slow", "image_url", "image_fetch_failed") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise APIError(400, f"the image cannot be fetched: {reason}", "image_url", "image_fetch_failed") from None

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
            host.encode("ascii")
            url.encode("ascii")
        except ValueError:
            raise APIError(400, "the image's URL is malformed", "image_url", "invalid_image_url") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None or len(url) > 2000:
            raise APIError(
                400, "an image's URL must be data:, or a plain http(s) URL", "image_url", "invalid_image_url"
            )
        named = port not in (None, 80, 443)
        for entry in self._hosts:
            name, _, entry_port = entry.partition(":")
            matches = host.endswith(name[1:]) if name.startswith("*.") else host == name
            if matches and (entry_port == str(port) if entry_port or named else True):
                return
        raise APIError(
            400, "images are not fetched from this host; send the image itself", "image_url", "host_not_allowed"
        )

    async def _read(self, url: str) -> bytes:
        headers = {"accept": "image/*", "accept-encoding": "identity", "user-agent": "lhrs"}
        async with (
            httpcore.AsyncConnectionPool(network_backend=self._backend, max_connections=1) as pool,
            pool.stream("GET", url, headers=[("host", urlsplit(url).netloc), *headers.items()]) as response,
        ):
            if response.status != 200:
                raise APIError(400, f"the image's server answered {response.status}", "image_url", "image_fetch_failed")
            data = bytearray()
            async for piece in response.aiter_stream():
                data += piece
                if len(data) > self._max_bytes:
                    raise APIError(400, f"the image has more than {self._max_bytes} bytes", "image_url", "too_large")
            return bytes(data)

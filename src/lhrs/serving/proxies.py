"""Client address, host and scheme of a request: direct, or through a trusted reverse proxy."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Scope

from lhrs.errors import ConfigError

_PORTS = {"http": 80, "https": 443}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Via:
    """The client and the public address of the server, as far as known."""

    client: str | None
    """Address of the client."""
    host: str
    """Host, and port if it is not the default of the scheme."""
    scheme: str | None
    """`http` or `https`; None if it is unknown behind a proxy."""

    def is_origin(self, origin: str) -> bool:
        """Return whether an `Origin` header names this server."""
        try:
            parts, here = urlsplit(origin), urlsplit(f"//{self.host}")
            default = _PORTS.get(parts.scheme)
            same = (parts.hostname, parts.port or default) == (here.hostname, here.port or default)
        except ValueError:  # the port is not a number
            return False
        return same and self.scheme in (None, parts.scheme)


def parse_networks(addresses: tuple[str, ...]) -> list[Network]:
    """Return the networks of addresses like `10.0.0.2` and `10.0.0.0/8`.

    Raises:
        ConfigError: a value is not an address or network.
    """
    try:
        return [ipaddress.ip_network(address, strict=False) for address in addresses]
    except ValueError as error:
        raise ConfigError(f"--trusted-proxy: {error}; give an address like 10.0.0.2 or a network.") from error


def find_via(scope: Scope, headers: dict[str, str], trusted: list[Network]) -> Via:
    """Return the origin of a request. `X-Forwarded-*` headers are read from trusted proxies only."""
    peer = scope["client"][0] if scope.get("client") else None
    direct = Via(peer, headers.get("host", ""), None)
    if peer is None or not _is_in(peer, trusted):
        return direct
    chain = [entry.strip() for entry in headers.get("x-forwarded-for", "").split(",") if entry.strip()]
    client = next((entry for entry in reversed(chain) if not _is_in(entry, trusted)), peer)
    scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
    host = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
    return Via(client, host or direct.host, scheme or None)


def _is_in(address: str, networks: list[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)

"""How a client reached the server: directly, or through a reverse proxy that is trusted."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import Scope

from lhrs.errors import ConfigError

_PORTS = {"http": 80, "https": 443}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Via:
    """What the client's browser sees, as far as it is known."""

    client: str | None
    """Address of the client."""
    host: str
    """Host, and port where it is not the scheme's."""
    scheme: str | None
    """`http` or `https`; None if only the proxy in front knows."""

    def is_origin(self, origin: str) -> bool:
        """Tell whether an `Origin` header names this server."""
        try:
            parts, here = urlsplit(origin), urlsplit(f"//{self.host}")
            default = _PORTS.get(parts.scheme)
            same = (parts.hostname, parts.port or default) == (here.hostname, here.port or default)
        except ValueError:  # a port that is no number
            return False
        return same and self.scheme in (None, parts.scheme)


def parse_networks(addresses: tuple[str, ...]) -> list[Network]:
    """Return the networks of addresses like `10.0.0.2` and `10.0.0.0/8`.

    Raises:
        ConfigError: one is no address.
    """
    try:
        return [ipaddress.ip_network(address, strict=False) for address in addresses]
    except ValueError as error:
        raise ConfigError(f"--trusted-proxy: {error}; give an address like 10.0.0.2 or a network.") from error


def find_via(scope: Scope, headers: dict[str, str], trusted: list[Network]) -> Via:
    """Return how a request arrived; `X-Forwarded-*` headers count from a trusted proxy only."""
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

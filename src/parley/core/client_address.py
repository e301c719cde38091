"""Who is at the other end of a request, behind proxies that are named and nothing else.

Forwarded headers are believed hop by hop from the right, only while the hop that speaks is trusted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope

from parley.core.settings import Network

IPV6_SITE_PREFIX = 64  # what one customer of a provider gets: counting single addresses would count nothing
MAX_HOPS = 32

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """Where a request came from."""

    address: Address | None
    """None for a peer without an address, such as one on a unix socket."""
    scheme: str
    is_hearsay: bool = False
    """Whether somebody who is not trusted forwards for others: then nobody knows who really calls."""

    def __str__(self) -> str:
        return str(self.address) if self.address else "local"

    @property
    def limit_key(self) -> str:
        """What counts as one caller: an IPv4 address, or an IPv6 network of one customer."""
        if isinstance(self.address, IPv6Address):
            return f"{IPv6Address(int(self.address) >> IPV6_SITE_PREFIX << IPV6_SITE_PREFIX)}/{IPV6_SITE_PREFIX}"
        return str(self)

    @property
    def is_loopback(self) -> bool:
        """Whether the caller sits on this machine; what came through a proxy counts as the proxy's client."""
        return not self.is_hearsay and (self.address is None or self.address.is_loopback)


def client_address(scope: Scope, trusted: Sequence[Network]) -> ClientAddress:
    """Resolve the caller of an ASGI scope."""
    peer = _parse(scope["client"][0]) if scope.get("client") else None
    scheme = "https" if scope["scheme"] in {"https", "wss"} else "http"
    headers = scope["headers"]
    if not _is_trusted(peer, trusted):
        is_hearsay = any(name in {b"x-forwarded-for", b"forwarded"} for name, _ in headers)
        return ClientAddress(peer, scheme, is_hearsay)
    hops = [hop.strip() for name, value in headers if name == b"x-forwarded-for" for hop in value.split(b",")]
    current = peer
    # A proxy that names its client in another way than we read, or not so that it can be read, is not its client.
    is_hearsay = not hops and any(name == b"forwarded" for name, _ in headers)
    for hop in reversed(hops[-MAX_HOPS:]):
        address = _parse(hop.decode("latin-1"))
        if address is None:
            is_hearsay = True
            break
        current = address
        if not _is_trusted(address, trusted):
            break
    protos = [value for name, value in headers if name == b"x-forwarded-proto"]
    if protos and protos[-1] in {b"http", b"https"}:
        scheme = protos[-1].decode()
    return ClientAddress(current, scheme, is_hearsay)


def _parse(text: str) -> Address | None:
    try:
        # A zone ("%eth0") means something on its own machine only, and may be any text.
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _is_trusted(address: Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)

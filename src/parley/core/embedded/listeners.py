"""The listening sockets, made and kept open by the parent, so that no connection is lost with a worker."""

import errno
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from parley.core.embedded.errors import EmbeddedError

BACKLOG = 2048
HIGHEST_PORT = 65_535
FREE_PORT_TRIES = 10  # a port that was free a moment ago may be taken by the next


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """What the sockets hand on to each connection they accept."""

    tcp_user_timeout_ms: int
    send_buffer_bytes: int


@dataclass(frozen=True, slots=True)
class Listeners:
    """For each worker the sockets it listens on. On Linux each has its own; elsewhere all share one set."""

    host: str
    port: int
    of_worker: Sequence[Sequence[socket.socket]]

    @property
    def address(self) -> str:
        """Return the address a browser on this machine can open."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(self.host, self.host)  # not bound
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    def of_others(self, number: int) -> Sequence[socket.socket]:
        """Return the sockets on which the worker of this number, from 0, does not listen, and others do."""
        own = self.of_worker[number]
        return [listener for sockets in self.of_worker if sockets is not own for listener in sockets]

    def close(self) -> None:
        for sockets in self.of_worker:
            for listener in sockets:
                listener.close()


def open_listeners(host: str, port: int, workers: int, options: ListenOptions) -> Listeners:
    """Listen; raise EmbeddedError with a sentence where the address cannot be had."""
    addresses = _resolve(host, port)
    for _ in range(FREE_PORT_TRIES):
        try:
            return _open(host, addresses, port, workers, options)
        except OSError as error:
            if port == 0 and error.errno == errno.EADDRINUSE:
                continue
            raise EmbeddedError(_sentence(host, port, error)) from None
    raise EmbeddedError(f"No free port was found on {host}.")


def _open(
    host: str, addresses: Sequence[tuple[socket.AddressFamily, str]], port: int, workers: int, options: ListenOptions
) -> Listeners:
    # Sharing a port also shares it with strangers: a bind that does not share finds out first whether there are any.
    usable, port = _probe(addresses, port)
    is_shared = sys.platform == "linux" and workers > 1
    opened: list[list[socket.socket]] = []
    try:
        for _ in range(workers if is_shared else 1):
            opened.append([])
            for family, address in usable:
                opened[-1].append(_listen(family, address, port, options, is_shared=is_shared))
    except OSError:
        Listeners(host, port, opened).close()
        raise
    return Listeners(host, port, opened if is_shared else opened * workers)


def _probe(
    addresses: Sequence[tuple[socket.AddressFamily, str]], port: int
) -> tuple[list[tuple[socket.AddressFamily, str]], int]:
    """Return the addresses this machine has, and the port, all of them free."""
    usable: list[tuple[socket.AddressFamily, str]] = []
    missing: OSError | None = None
    for family, address in addresses:
        try:
            with _bound(family, address, port, is_shared=False) as probe:
                port = probe.getsockname()[1]
                usable.append((family, address))
        except OSError as error:
            # localhost names ::1 also where there is no IPv6.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
            missing = error
    if missing is not None and not usable:
        raise missing
    return usable, port


def _bound(family: socket.AddressFamily, address: str, port: int, *, is_shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # "::" means every address of the machine to people; any other name means just itself.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def _listen(
    family: socket.AddressFamily, address: str, port: int, options: ListenOptions, *, is_shared: bool
) -> socket.socket:
    listener = _bound(family, address, port, is_shared=is_shared)
    # Accepted connections inherit these. Without the first, a peer that vanished is held for ever; without the
    # second, megabytes wait in the kernel for a slow one.
    if sys.platform == "linux":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, options.tcp_user_timeout_ms)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.listen(BACKLOG)
    return listener


def _resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise EmbeddedError(f"The host name {host!r} is unknown. Try --host 127.0.0.1.") from None
    # A dict keeps the order and drops doubles, which hosts files have.
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _another(port: int) -> int:
    return port + 1 if port < HIGHEST_PORT else 0


def _sentence(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is already in use. Try another one: parley serve --port {_another(port)}"
    if error.errno == errno.EACCES:
        return (
            f"Port {port} on {host} needs more rights than this user has. Try one above 1023: parley serve --port 8000"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine. Try --host 127.0.0.1, or --host 0.0.0.0 for all of them."
    return f"Port {port} on {host} cannot be used: {error.strerror}."

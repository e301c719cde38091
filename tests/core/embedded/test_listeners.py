"""Listening sockets: what connections inherit, and what a person is told when an address cannot be had."""

import socket
import sys
from collections import Counter

import pytest

from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.listeners import ListenOptions, open_listeners

OPTIONS = ListenOptions(tcp_user_timeout_ms=4321, send_buffer_bytes=65_536)


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_in_use_is_named_with_another_one(shares: bool) -> None:
    with socket.socket() as stranger:
        if shares:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"Port {port} .* --port {port + 1}"):
            open_listeners("127.0.0.1", port, 4, OPTIONS)


@pytest.mark.parametrize(
    ("host", "words"), [("no.such.host.invalid", "unknown"), ("203.0.113.7", "not an address of this machine")]
)
def test_a_wrong_host_is_named(host: str, words: str) -> None:
    with pytest.raises(EmbeddedError, match=words):
        open_listeners(host, 0, 2, OPTIONS)


def test_port_0_is_one_free_port_for_all_workers_and_addresses() -> None:
    listeners = open_listeners("localhost", 0, 3, OPTIONS)
    try:
        ports = {listener.getsockname()[1] for sockets in listeners.of_worker for listener in sockets}
        assert ports == {listeners.port}
        assert len(listeners.of_worker) == 3
        assert listeners.address == f"http://localhost:{listeners.port}"
        for number, own in enumerate(listeners.of_worker):
            others = listeners.of_others(number)
            assert not {id(listener) for listener in own} & {id(listener) for listener in others}
            assert len(others) == (2 * len(own) if sys.platform == "linux" else 0)
    finally:
        listeners.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all workers share one socket")
def test_connections_are_spread_and_inherit_the_options() -> None:
    listeners = open_listeners("127.0.0.1", 0, 4, OPTIONS)
    clients = [socket.create_connection(("127.0.0.1", listeners.port), timeout=5) for _ in range(200)]
    try:
        accepted: Counter[int] = Counter()
        for number, [listener] in enumerate(listeners.of_worker):
            listener.settimeout(0)
            while True:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:
                    break
                with connection:
                    accepted[number] += 1
                    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4321
                    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                    # The kernel doubles what was asked for, and keeps it.
                    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 131_072
        assert sum(accepted.values()) == 200
        assert min(accepted[number] for number in range(4)) >= 20
    finally:
        for client in clients:
            client.close()
        listeners.close()


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("[127.0.0.1]", "127.0.0.1")]
)
def test_the_address_can_be_opened_on_this_machine(host: str, address: str) -> None:
    listeners = open_listeners(host, 0, 1, OPTIONS)
    try:
        with socket.create_connection((address, listeners.port), timeout=5):
            pass
        assert listeners.address.startswith("http://")
    finally:
        listeners.close()

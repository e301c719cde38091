"""Runs as `python -m parley.cli.worker`: one worker of a `parley serve`, on the sockets its parent opened.

Everything it needs is in the environment; it imports no terminal libraries.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import random
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import structlog
from fastapi import FastAPI

from parley.app import create_app
from parley.core.embedded.folder import find_data_folder, make_data_folder
from parley.core.embedded.listeners import BACKLOG
from parley.core.garbage import settle_garbage
from parley.core.health import Readiness
from parley.core.http_protocol import HttpProtocol
from parley.core.instruments import Instruments
from parley.core.logging import LineWriter, configure_logging
from parley.core.memory import resident_bytes
from parley.core.neighbours import Neighbours
from parley.core.server import Server
from parley.core.serving import Bounds, ServingConfig
from parley.core.watchdog import LOST_EXIT, Watchdog
from parley.core.wear import Wear
from parley.core.websocket_protocol import WebSocketProtocol
from parley.settings import Settings, load, with_secret

LISTENING, READY, SPENT, DRAINING = b"listening\n", b"ready\n", b"spent\n", b"draining\n"
POLL_S = 0.01
WEAR_S = 1.0
ASK_AGAIN_S = 120.0  # a successor that did not get ready may do so later
WS_MAX_BYTES = 65_536  # the bound of a frame, DESIGN 4.5
SILENT_HEARTBEATS = 2  # after an unanswered ping: three without a frame in all
log = structlog.get_logger(__name__)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="parley.cli.worker", description=__doc__)
    parser.add_argument("--fd", type=int, action="append", required=True, help="listening socket; may be repeated")
    parser.add_argument("--neighbour-fd", type=int, action="append", default=[], help="that of another worker")
    parser.add_argument("--status-fd", type=int, required=True, help="pipe that learns how far the start is")
    parser.add_argument("--successor", action="store_true", help="take connections only when ready")
    arguments = parser.parse_args()
    os.set_inheritable(arguments.status_fd, False)  # noqa: FBT003  # the standard library's way
    settings = load(env_file=Path(".env"))
    if not settings.server.is_production and not settings.auth.secrets:
        folder = find_data_folder(settings.server.data_dir)
        make_data_folder(folder)
        settings = with_secret(settings, folder.secret)
    sockets = [socket.socket(fileno=number) for number in arguments.fd]
    neighbours = Neighbours([socket.socket(fileno=number) for number in arguments.neighbour_fd])
    run(settings, sockets, neighbours, arguments.status_fd, is_successor=arguments.successor)


def run(
    settings: Settings, sockets: Sequence[socket.socket], neighbours: Neighbours, status: int, *, is_successor: bool
) -> None:
    """Run uvicorn on these sockets and report progress on the status pipe."""
    server_settings = settings.server
    is_terminal = sys.stdout.isatty() and not server_settings.is_production
    pretty = server_settings.log_format == "pretty" or (server_settings.log_format == "auto" and is_terminal)
    level = "debug" if server_settings.debug else server_settings.log_level
    writer = configure_logging(level=level, pretty=pretty)
    app = create_app(settings)
    instruments: Instruments = app.state.instruments
    instruments.readings.count(instruments.metrics.log_dropped, lambda: writer.dropped)
    when_ready = app.state.readiness if is_successor else None
    server = Server(serving_config(app, settings), when_ready=when_ready, neighbours=neighbours)
    server.on_drain = functools.partial(_tell, status, DRAINING)
    watchdog = Watchdog(
        instruments.pulse,
        instruments.metrics,
        blocked_s=server_settings.loop_blocked_s,
        stuck_s=server_settings.loop_stuck_s,
        give_up=functools.partial(_die, writer),
    )
    watchdog.start()
    try:
        with asyncio.Runner(debug=settings.server.debug, loop_factory=server.config.get_loop_factory()) as runner:
            wear = Wear(server_settings, random.random())  # noqa: S311  # spreads, and hides nothing
            runner.run(_serve(server, list(sockets), app.state.readiness, wear, status))
    finally:
        watchdog.stop()


def serving_config(app: FastAPI, settings: Settings) -> ServingConfig:
    """Return how a worker serves this application."""
    server, heartbeat_s = settings.server, settings.chat.heartbeat_s
    return ServingConfig(
        app,
        drain=app.state.drain,
        bounds=Bounds(head_timeout_s=server.head_timeout_s),
        graceful_s=server.graceful_s,
        loop="uvloop",
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=WS_MAX_BYTES,
        ws_ping_interval=heartbeat_s,
        ws_ping_timeout=SILENT_HEARTBEATS * heartbeat_s,
        ws_per_message_deflate=False,  # 15 KB of it can become 15 MB
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # decided by our own middleware, for listed proxies only
        reset_contextvars=True,
        backlog=BACKLOG,
        timeout_keep_alive=server.keep_alive_s,
    )


async def _serve(server: Server, sockets: list[socket.socket], readiness: Readiness, wear: Wear, status: int) -> None:
    reporter = asyncio.create_task(_report(server, readiness, wear, status), name="report of readiness")
    try:
        await server.serve(sockets=sockets)
    finally:
        reporter.cancel()
        await asyncio.gather(reporter, return_exceptions=True)


async def _report(server: Server, readiness: Readiness, wear: Wear, status: int) -> None:
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(POLL_S)
    settle_garbage()
    _tell(status, LISTENING)
    await readiness.wait()
    _tell(status, READY)
    while wear.is_bounded:
        await asyncio.sleep(WEAR_S)
        reason = wear.reason(server.server_state.total_requests, resident_bytes)
        if reason is not None:
            log.info("worker_has_done_enough", of=reason)
            _tell(status, SPENT)
            await asyncio.sleep(ASK_AGAIN_S)


def _die(writer: LineWriter) -> NoReturn:
    """End without the loop, which does not come round; the last words are written first."""
    writer.close()
    os._exit(LOST_EXIT)


def _tell(status: int, line: bytes) -> None:
    with contextlib.suppress(OSError):  # a parent that died reads nothing
        os.write(status, line)


if __name__ == "__main__":
    main()

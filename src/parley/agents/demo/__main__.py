"""Runs as `python -m parley.agents.demo`: the demo model in a process of its own, until SIGTERM or SIGINT.

A pipe, where one is given, learns the port and then that it is ready, a line each.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket

import uvloop

from parley.agents.demo.brain import reply
from parley.agents.demo.server import open_demo
from parley.core.garbage import settle_garbage

PACE_S = 0.03  # about as fast as a hosted model talks


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="parley.agents.demo", description=__doc__)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 for any that is free")
    place.add_argument("--fd", type=int, help="a socket that listens already")
    parser.add_argument("--status-fd", type=int, help="pipe that learns the port, else it is printed")
    parser.add_argument("--pace-s", type=float, default=PACE_S, help="seconds between two words")
    arguments = parser.parse_args()
    settle_garbage()
    if arguments.status_fd is not None:
        os.set_inheritable(arguments.status_fd, False)  # noqa: FBT003  # the standard library's way
    listener = None if arguments.fd is None else socket.socket(fileno=arguments.fd)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(arguments.port, listener, arguments.status_fd, arguments.pace_s))


async def _serve(port: int, listener: socket.socket | None, status: int | None, pace_s: float) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with open_demo(reply=reply, port=port, listener=listener, pace_s=pace_s) as url:
        _tell(status, url)
        await told.wait()


def _tell(status: int | None, url: str) -> None:
    port = url.removesuffix("/v1").rpartition(":")[2]
    if status is None:
        print(url, flush=True)  # noqa: T201  # for the person who started it
        return
    with contextlib.suppress(OSError):
        os.write(status, f"port {port}\nready\n".encode())
        os.close(status)


if __name__ == "__main__":
    main()

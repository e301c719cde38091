"""Doors into a running service: each leads to the workers a test names, and can be slammed.

Which worker took a connection is read from the kernel's own lists; the service needs no sign on its door.
"""

import asyncio
import contextlib
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.story.serving import HAS_PROC, Serving

TRIES = 200
ACCEPTED_S = 2.0
ALIVE_S = 60.0  # until a worker that was killed has a successor
CHUNK = 65_536
SLAM_AGAIN_S = 0.5
Leads = Callable[[int], bool]


def _inode_of(server_port: int, client_port: int) -> str | None:
    """Return the server's end of a connection between two ports of this machine; None before it was accepted."""
    ends = rf" [0-9A-F]{{8}}:{server_port:04X} [0-9A-F]{{8}}:{client_port:04X} "
    found = re.search(rf"{ends}\S+ \S+ \S+ \S+ +\d+ +\d+ (\d+)", Path("/proc/net/tcp").read_text())
    return found[1] if found and found[1] != "0" else None


def holder_of(server_port: int, client_port: int, pids: set[int]) -> int | None:
    """Return which of these processes has the server's end of a connection."""
    inode = _inode_of(server_port, client_port)
    if inode is None:
        return None
    for pid in pids:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  # thousands of times a test
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{number}") == f"socket:[{inode}]":  # noqa: PTH115  # the same
                        return pid
    return None


class Door:
    """Passes bytes on to one of the workers that are meant."""

    def __init__(self, serving: Serving, leads: Leads, known: dict[int, list[int]] | None = None) -> None:
        assert HAS_PROC, "needs the kernel's lists"
        self._known = {} if known is None else known
        """Free ports of ours by the worker they lead to: the kernel deals the same one out again."""
        self._serving = serving
        self._port = serving.port
        self._leads = leads
        self._workers = serving.workers()
        self._passing: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._is_closed = False

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def move(self, serving: Serving) -> None:
        """Lead to another service from now on."""
        self._serving, self._port, self._workers = serving, serving.port, serving.workers()

    def slam(self) -> None:
        """Cut everybody who is inside; they may come back."""
        for task in self._passing:
            task.cancel()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._enter, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._is_closed = True
        while self._passing:  # a cancellation may meet what has just happened, and be lost
            self.slam()
            await asyncio.wait(self._passing, timeout=SLAM_AGAIN_S)

    def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed:  # it was on the doorstep
            writer.transport.abort()
            return
        task = asyncio.create_task(self._pass(reader, writer), name="door")
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner: asyncio.StreamWriter | None = None
        try:
            inner_reader, inner = await self._find()
            both = [asyncio.create_task(_pump(reader, inner)), asyncio.create_task(_pump(inner_reader, writer))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in both:
                    pump.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        finally:
            for end in (writer, inner):
                if end is not None:
                    end.transport.abort()

    async def _find(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect until a worker that is meant answers: the kernel deals connections out by their ports."""
        async with asyncio.timeout(ALIVE_S):
            while True:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=self._from())
                    is_meant = False
                    try:
                        is_meant = await self._is_meant(writer)
                    finally:
                        if not is_meant:
                            writer.transport.abort()
                    if is_meant:
                        return reader, writer
                await asyncio.sleep(0.002)

    def _from(self) -> tuple[str, int]:
        for pid, ports in self._known.items():
            if ports and self._leads(pid):
                return "127.0.0.1", ports.pop()
        return "127.0.0.1", 0

    async def _is_meant(self, writer: asyncio.StreamWriter) -> bool:
        client_port = writer.get_extra_info("sockname")[1]
        for _ in range(TRIES):
            pid = holder_of(self._port, client_port, self._workers)
            if pid is not None and not self._leads(pid):
                # Without a goodbye, so that the port is free at once.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._known.setdefault(pid, []).append(client_port)
            if pid is not None:
                return self._leads(pid)
            await asyncio.sleep(ACCEPTED_S / TRIES)
            if _inode_of(self._port, client_port) is not None:
                self._workers = self._serving.workers()
        return False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def door(serving: Serving, leads: Leads, known: dict[int, list[int]] | None = None) -> AsyncIterator[Door]:
    """Open a door for as long as the block takes; it leads to the workers for which `leads` holds."""
    made = Door(serving, leads, known)
    await made.open()
    try:
        yield made
    finally:
        await made.close()

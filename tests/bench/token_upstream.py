"""Runs as `python -m tests.bench.token_upstream PORT_FD`: a cheap provider that speaks as the question asks.

A question says `say 200 tokens at 50/s`; 0/s is as fast as the socket takes them. Each token is the moment it left:
` T<monotonic ns>`, so that a reader on the same machine knows what it took.
"""

import asyncio
import re
import socket
import sys
import time

import uvloop

from parley.agents.demo.chunks import DONE, Chunks

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"
ASKED = re.compile(rb"say (\d+) tokens at (\d+)/s")
BLOCK_TOKENS = 25  # of a flood, before other streams have their turn
PLACE = "PLACE"
CHUNKS = Chunks("chatcmpl-bench", "bench", 1_700_000_000)
BEFORE, AFTER = CHUNKS.text(PLACE).split(PLACE.encode())


def question(tokens: int, per_s: int) -> str:
    """Return how to ask for that."""
    return f"say {tokens} tokens at {per_s}/s"


def wish(body: bytes) -> tuple[int, int]:
    """Return what was asked for last: tokens, and how many a second."""
    said = ASKED.findall(body)
    return (int(said[-1][0]), int(said[-1][1])) if said else (10, 0)


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _token() -> bytes:
    return _framed(b"%b T%d%b" % (BEFORE, time.monotonic_ns(), AFTER))


FIRST = HEAD + _framed(CHUNKS.delta({"role": "assistant", "content": ""}))


class Talker(asyncio.Protocol):
    """One connection: answers what is asked, one answer after the other."""

    def __init__(self) -> None:
        self._asked = b""
        self._tokens = self._left = self._per_s = 0
        self._began = 0.0
        self._may_write = True
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one of TCP

    def connection_lost(self, exc: Exception | None) -> None:
        self._left = 0
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, found, body = self._asked.partition(END_OF_HEAD)
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if not found or len(body) < length:
            return
        self._asked = b""
        self._tokens, self._per_s = wish(body)
        self._left = self._tokens
        self._began = self._loop.time()
        self._transport.write(FIRST)
        self._talk()

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        if self._left and not self._per_s:
            self._flood()

    def _talk(self) -> None:
        if self._per_s:
            due_at = self._began + (self._tokens - self._left + 1) / self._per_s
            self._timer = self._loop.call_at(due_at, self._speak)
        else:
            self._flood()

    def _speak(self) -> None:
        self._left -= 1
        self._transport.write(_token() if self._left else _token() + self._last())
        if self._left:
            self._talk()

    def _flood(self) -> None:
        if not self._may_write or not self._left:
            return
        count = min(BLOCK_TOKENS, self._left)
        self._left -= count
        block = b"".join(_token() for _ in range(count))
        self._transport.write(block if self._left else block + self._last())
        if self._left:
            self._timer = self._loop.call_soon(self._flood)

    def _last(self) -> bytes:
        usage = CHUNKS.usage(10, self._tokens)
        return b"".join(map(_framed, (CHUNKS.finish("stop"), usage, DONE))) + b"0\r\n\r\n"


async def main(descriptor: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Talker, sock=socket.socket(fileno=descriptor), backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

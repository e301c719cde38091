"""Runs as `python -m tests.bench.model_upstream PORT_FD TOKENS`: a provider that costs next to nothing itself.

Every answer is the same ready-made stream, one token a chunk, as fast as the socket takes it.
"""

import asyncio
import socket
import sys

import uvloop

from parley.agents.demo.chunks import DONE, Chunks

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BLOCK_TOKENS = 50
END_OF_HEAD = b"\r\n\r\n"


def framed(*events: bytes) -> bytes:
    """Return each event in a chunk of its own."""
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)


class Talker(asyncio.Protocol):
    """Answers whatever is asked with the stream, and waits where the reader does."""

    def __init__(self, tokens: int) -> None:
        chunks = Chunks("chatcmpl-bench", "bench", 0)
        words = [chunks.text(f" word{number}") for number in range(BLOCK_TOKENS)]
        self._blocks = tokens // BLOCK_TOKENS
        self._first = HEAD + framed(chunks.role())
        self._block = framed(*words)
        self._last = framed(chunks.finish("stop"), chunks.usage(10, tokens), DONE) + b"0\r\n\r\n"
        self._left = 0
        self._may_write = True
        self._asked = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one of TCP

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, found, body = self._asked.partition(END_OF_HEAD)
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if found and len(body) >= length:
            self._asked = b""
            self._left = self._blocks
            self._transport.write(self._first)
            self._talk()

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._talk()

    def _talk(self) -> None:
        while self._left and self._may_write:
            self._left -= 1
            self._transport.write(self._block if self._left else self._block + self._last)


async def main(descriptor: int, tokens: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Talker(tokens), sock=socket.socket(fileno=descriptor)
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))

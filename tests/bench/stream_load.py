"""Readers of event streams: they count tokens and what each took, and understand nothing else."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

STAMP = re.compile(rb"T(\d{12,})(?=\D)")
KEPT_BYTES = 32  # what a stamp that was cut in two may have before the cut
LAST_CHUNK = b"0\r\n\r\n"
PATIENCE_S = 60.0


@dataclass(slots=True)
class Seen:
    """What came of a round of streams."""

    tokens: int = 0
    streams: int = 0
    short: int = 0
    """Streams that were refused, broke off, or had another number of tokens."""
    took_s: float = 0.0
    first_ms: list[float] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)
    refusal: bytes = b""


class _Reader(asyncio.Protocol):
    """Asks what is left to ask, one after the other on one connection."""

    def __init__(self, requests: Iterator[bytes], tokens: int, seen: Seen, starts_at: float) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._requests, self._tokens, self._seen, self._starts_at = requests, tokens, seen, starts_at
        self._transport: asyncio.Transport
        self._tail = b""
        self._last = b""
        self._count = 0
        self._asked_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # it is one of TCP
        loop = asyncio.get_running_loop()
        loop.call_at(self._starts_at, self._ask)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._seen.short += 1
            self._seen.refusal = self._seen.refusal or b"cut after %d tokens" % self._count
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        text = self._tail + data if self._tail else data
        if not self._count and text.startswith(b"HTTP/1.1 ") and not text.startswith(b"HTTP/1.1 200"):
            self._seen.refusal = text[-400:]
            self._transport.close()
            return
        end = 0
        for found in STAMP.finditer(text):
            end = found.end()
            if not self._count:
                self._seen.first_ms.append((now - self._asked_ns) / 1e6)
            self._count += 1
            self._seen.delays_ms.append((now - int(found[1])) / 1e6)
        self._tail = text[max(end, len(text) - KEPT_BYTES) :]
        if text.endswith(LAST_CHUNK):
            self._last = text
            self._end()

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.ended.set_result(None)
            self._transport.close()
            return
        self._tail, self._count = b"", 0
        self._asked_ns = time.monotonic_ns()
        self._transport.write(request)

    def _end(self) -> None:
        self._seen.tokens += self._count
        self._seen.streams += 1
        if self._count != self._tokens:
            self._seen.short += 1
            self._seen.refusal = b"%d of %d tokens; at its end %b" % (self._count, self._tokens, self._last[-400:])
        self._ask()


async def read_streams(port: int, requests: Sequence[bytes], tokens: int, *, at_once: int, over_s: float = 0.0) -> Seen:
    """Read all of them, so many at once; the first ones start within `over_s`."""
    loop, seen, left = asyncio.get_running_loop(), Seen(), iter(requests)
    readers = []
    starts_at = loop.time() + 0.02 + at_once * 0.0002
    for number in range(at_once):
        moment = starts_at + over_s * number / at_once
        _, reader = await loop.create_connection(partial(_Reader, left, tokens, seen, moment), "127.0.0.1", port)
        readers.append(reader)
    await asyncio.sleep(max(0.0, starts_at - loop.time()))
    began = time.perf_counter()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(reader.ended for reader in readers))
    seen.took_s = time.perf_counter() - began
    return seen

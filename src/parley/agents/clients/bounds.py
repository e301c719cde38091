"""Bounds what the SDK reads by itself: the bodies of refusals and of plain answers, which it reads to their end."""

import asyncio
from collections.abc import AsyncIterator

import httpx2

EVENT_STREAM = "text/event-stream"
REFUSAL_BYTES = 64 * 1024
REFUSAL_S = 1.0  # the status says what matters; the body is for the log
PLAIN_BYTES = 8 * 1024 * 1024  # lists of models: the longest known is about 1 MB
PLAIN_S = 30.0


def is_event_stream(response: httpx2.Response) -> bool:
    """Whether this is an answer that streams, as it was asked for: in plain bytes."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return response.status_code == httpx2.codes.OK and kind == EVENT_STREAM and not is_encoded(response)


def is_encoded(response: httpx2.Response) -> bool:
    """Whether the provider compressed what was asked for in plain bytes: a few of them may stand for gigabytes."""
    return response.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}


async def bound_body(response: httpx2.Response) -> None:
    """Cut a body that the SDK would read without an end. A hook of the HTTP client."""
    if is_event_stream(response) or not isinstance(response.stream, httpx2.AsyncByteStream):
        return
    is_plain = response.is_success
    response.stream = _Bounded(
        response.stream,
        max_bytes=0 if is_encoded(response) else PLAIN_BYTES if is_plain else REFUSAL_BYTES,
        within_s=PLAIN_S if is_plain else REFUSAL_S,
    )


class _Bounded(httpx2.AsyncByteStream):
    """Ends early and quietly where the body has too many bytes or takes too long."""

    def __init__(self, stream: httpx2.AsyncByteStream, *, max_bytes: int, within_s: float) -> None:
        self._stream = stream
        self._bytes_left = max_bytes
        self._within_s = within_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = aiter(self._stream)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._within_s
        while self._bytes_left:
            try:
                async with asyncio.timeout_at(deadline):
                    piece = await anext(pieces, b"")
            except (TimeoutError, httpx2.HTTPError):
                return
            if not piece:
                return
            piece = piece[: self._bytes_left]
            self._bytes_left -= len(piece)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()

"""Answers on command: everything a provider can do wrong, and answers as a test writes them.

A call asks for one by the header `x-demo-script` (JSON, the fields of `Script`) or by the model `script-<kind>`, fields
behind a question mark: `script-hang-middle?ping_s=0.1`. Says nothing on its own.
"""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from parley.agents.demo.chunks import DONE, Chunks, event, usage
from parley.agents.demo.http import Exchange, error_body

HEADER = "x-demo-script"
MODEL_PREFIX = "script-"
HTML = b"<!doctype html><title>Sign in</title><h1>Please sign in to this network</h1>"
MEGABYTE = 1024 * 1024


class ScriptedCall(msgspec.Struct, frozen=True):
    """A tool call, arguments as they are put on the wire, JSON or not."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do. Each kind reads the fields it knows."""

    kind: str
    status: int = 500
    retry_after: str | None = None
    location: str = "/elsewhere"
    content_type: str = "text/html; charset=utf-8"
    text: str = "Good morning."
    after: int = 3
    """Good pieces before it goes wrong."""
    count: int = 100
    """Pieces, comments or lines in all; 0 for no end."""
    pause_s: float = 0.0
    """Between two of them."""
    ping_s: float = 0.0
    """Between two comments while it hangs; 0 for none."""
    size_bytes: int = 10 * MEGABYTE
    finish: str = "stop"
    prompt_tokens: int = 10
    completion_tokens: int | None = None
    calls: tuple[ScriptedCall, ...] = ()
    lines: tuple[Any, ...] = ()
    """Data of events, as JSON; a string stands for itself."""
    times: int = 0
    """Only this often for the same `key`, then as usual; 0 for always."""
    key: str = ""

    def asking(self) -> "Script":
        """Return the same script with the end of an answer that calls tools, unless it names another."""
        return msgspec.structs.replace(self, finish="tool_calls") if self.finish == "stop" else self


class NoSuchScript(Exception):
    """What was asked for is no script."""


def find_script(headers: Mapping[str, str], model: str) -> Script | None:
    """Return the script a call asks for; None for an ordinary answer."""
    try:
        if HEADER in headers:
            script = msgspec.json.decode(headers[HEADER], type=Script)
        elif model.startswith(MODEL_PREFIX):
            kind, _, fields = model.removeprefix(MODEL_PREFIX).partition("?")
            script = msgspec.convert({"kind": kind, **dict(parse_qsl(fields))}, Script, strict=False)
        else:
            return None
    except msgspec.MsgspecError as error:
        raise NoSuchScript(str(error)) from error
    if script.kind not in KINDS:
        raise NoSuchScript(f"the kinds are: {', '.join(sorted(KINDS))}")
    return script


async def play(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Answer as the script says."""
    await KINDS[script.kind](script, exchange, chunks)


async def _begin(script: Script, exchange: Exchange, chunks: Chunks, *, is_chunked: bool = True) -> None:
    """Send what every good stream begins with, and some good pieces."""
    await exchange.begin_stream(is_chunked=is_chunked)
    send = exchange.chunk if is_chunked else exchange.send
    await send(chunks.role())
    for number in range(script.after):
        await send(chunks.text(f"word{number} "))


async def _end(script: Script, exchange: Exchange, chunks: Chunks, pieces: int) -> None:
    told = pieces if script.completion_tokens is None else script.completion_tokens
    await exchange.chunk(chunks.finish(script.finish) + chunks.usage(script.prompt_tokens, told) + DONE)
    await exchange.chunk(b"")


async def _refuse(_: Script, exchange: Exchange, __: Chunks) -> None:
    exchange.drop()


async def _status(script: Script, exchange: Exchange, _: Chunks) -> None:
    wait = {} if script.retry_after is None else {"retry_after": script.retry_after}
    await exchange.json(script.status, error_body("scripted failure", f"scripted_{script.status}"), **wait)


async def _hang(script: Script, exchange: Exchange) -> None:
    """Say nothing more, or nothing but comments, until the client has left."""
    while True:
        await exchange.pause(script.ping_s or 3600.0)
        if script.ping_s:
            await exchange.chunk(b": ping\n\n")


async def _hang_head(_: Script, exchange: Exchange, __: Chunks) -> None:
    await exchange.pause(3600.0)


async def _hang_first(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await exchange.begin_stream()
    await exchange.chunk(chunks.role())
    await _hang(script, exchange)


async def _hang_middle(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    await _hang(script, exchange)


async def _hang_finished(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Finish, and never say `[DONE]`."""
    await _begin(script, exchange, chunks)
    await exchange.chunk(chunks.finish(script.finish))
    await _hang(script, exchange)


async def _empty_pieces(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    while True:
        await exchange.pause(script.pause_s or 0.05)
        await exchange.chunk(chunks.text(""))


async def _truncate_chunked(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    exchange.stays_open = False


async def _truncate_close(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks, is_chunked=False)


async def _truncate_done(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Say `[DONE]` without having finished."""
    await _begin(script, exchange, chunks)
    await exchange.chunk(DONE)
    await exchange.chunk(b"")


async def _truncate_reset(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    exchange.drop()


async def _html(script: Script, exchange: Exchange, _: Chunks) -> None:
    await exchange.whole(200, HTML, kind=script.content_type)


async def _html_stream(_: Script, exchange: Exchange, __: Chunks) -> None:
    """HTML that says of itself to be a stream: no event in it."""
    await exchange.whole(200, HTML, kind="text/event-stream")


async def _html_error(script: Script, exchange: Exchange, _: Chunks) -> None:
    page = HTML * (1 + script.size_bytes // len(HTML))
    await exchange.whole(script.status, page, kind="text/html")


async def _lines(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Good pieces, then the events of the script, then a good end."""
    await _begin(script, exchange, chunks)
    for value in script.lines:
        await exchange.chunk(f"data: {value}\n\n".encode() if isinstance(value, str) else event(value))
    await _end(script, exchange, chunks, script.after)


async def _bad_json(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    await exchange.chunk(b'data: {"id": "x", "choices": [{\n\n')
    await _end(script, exchange, chunks, script.after)


async def _bad_utf8(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    await exchange.chunk(chunks.text("XX").replace(b"XX", b"\xff\xfe"))
    await _end(script, exchange, chunks, script.after)


async def _long_line(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    await exchange.chunk(b'data: {"id": "')
    for _ in range(0, script.size_bytes, 65536):
        await exchange.chunk(b"x" * 65536)
    await _end(script, exchange, chunks, script.after)


async def _comments(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Comments as fast as they are taken."""
    await _begin(script, exchange, chunks)
    while True:
        await exchange.chunk(b": still here\n" * 500)


async def _tokens(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """A number of tokens at a pace, or tokens without end."""
    await exchange.begin_stream()
    await exchange.chunk(chunks.role())
    number = 0
    while number < script.count or not script.count:
        await exchange.chunk(chunks.text(f" T{number}"))
        number += 1
        if script.pause_s:
            await exchange.pause(script.pause_s)
    await _end(script, exchange, chunks, number)


async def _flood(_: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Tokens without end, many at once."""
    await exchange.begin_stream()
    batch = b"".join(chunks.text(f" T{number}") for number in range(100))
    while True:
        await exchange.chunk(batch)


async def _deaf(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Talk on when the client has left, until the connection is lost."""
    await exchange.begin_stream()
    while True:
        await exchange.chunk(chunks.text(" and another thing"), deaf=True)
        await exchange.nap(script.pause_s or 0.005)


async def _bytes(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """The text, one byte of the stream at a time."""
    await exchange.begin_stream()
    words = re.findall(r"\S*\s*", script.text)[:-1]
    body = b"".join([chunks.role(), *map(chunks.text, words), chunks.finish(script.finish), DONE])
    for byte in body:
        await exchange.chunk(bytes([byte]))
        await exchange.nap(script.pause_s)
    await exchange.chunk(b"")


async def _redirect(script: Script, exchange: Exchange, _: Chunks) -> None:
    status = script.status if 300 <= script.status < 400 else 307  # noqa: PLR2004  # the class of HTTP
    await exchange.whole(status, b"", location=script.location)


async def _huge_head(script: Script, exchange: Exchange, _: Chunks) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
    for number in range(0, script.size_bytes, 1024):
        await exchange.send(b"x-padding-%d: %s\r\n" % (number, b"y" * 1000))
    await exchange.send(b"\r\n")
    exchange.stays_open = False


async def _gzip_bomb(script: Script, exchange: Exchange, _: Chunks) -> None:
    """A few kilobytes that stand for megabytes, with any status."""
    bomb = await asyncio.to_thread(gzip.compress, b": x\n" * (script.size_bytes // 4))
    await exchange.whole(script.status, bomb, kind="text/event-stream", content_encoding="gzip")


async def _error_event(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    await exchange.chunk(event({"error": {"message": HTML.decode(), "type": "server_error", "code": script.status}}))
    await exchange.chunk(b"")


async def _other_id(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    await _begin(script, exchange, chunks)
    await exchange.chunk(Chunks("chatcmpl-of-another", chunks.model, chunks.created).text("secrets of others"))
    await _end(script, exchange, chunks, script.after)


async def _calls(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """Tool calls, the arguments in pieces."""
    await exchange.begin_stream()
    await exchange.chunk(chunks.role())
    for index, call in enumerate(script.calls):
        await exchange.chunk(chunks.call(index, "", call.id, call.name))
        step = max(1, len(call.arguments) // 8)
        for start in range(0, len(call.arguments), step):
            await exchange.chunk(chunks.call(index, call.arguments[start : start + step]))
    await _end(script.asking(), exchange, chunks, len(script.calls))


async def _huge_call(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """One tool call whose arguments have a given size."""
    await exchange.begin_stream()
    name = script.calls[0].name if script.calls else "search_knowledge"
    await exchange.chunk(chunks.call(0, '{"query":"', "call_1", name))
    for _ in range(0, script.size_bytes, 16384):
        await exchange.chunk(chunks.call(0, "x" * 16384))
    await exchange.chunk(chunks.call(0, '"}'))
    await _end(script.asking(), exchange, chunks, 1)


async def _text(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """The text as it stands, word by word."""
    await exchange.begin_stream()
    await exchange.chunk(chunks.role())
    words = re.findall(r"\s*\S+", script.text)
    for word in words:
        await exchange.chunk(chunks.text(word))
        if script.pause_s:
            await exchange.pause(script.pause_s)
    await _end(script, exchange, chunks, len(words))


async def _whole(script: Script, exchange: Exchange, chunks: Chunks) -> None:
    """A whole answer in JSON, though a stream was asked for."""
    message = {"role": "assistant", "content": script.text}
    value = chunks.chunk([{"index": 0, "message": message, "finish_reason": script.finish}])
    await exchange.json(200, {**value, "object": "chat.completion", "usage": usage(script.prompt_tokens, 1)})


Play = Callable[[Script, Exchange, Chunks], Awaitable[None]]
KINDS: dict[str, Play] = {
    "refuse": _refuse,
    "status": _status,
    "hang-head": _hang_head,
    "hang-first": _hang_first,
    "hang-middle": _hang_middle,
    "hang-finished": _hang_finished,
    "empty-pieces": _empty_pieces,
    "truncate-chunked": _truncate_chunked,
    "truncate-close": _truncate_close,
    "truncate-done": _truncate_done,
    "truncate-reset": _truncate_reset,
    "html": _html,
    "html-stream": _html_stream,
    "html-error": _html_error,
    "lines": _lines,
    "bad-json": _bad_json,
    "bad-utf8": _bad_utf8,
    "long-line": _long_line,
    "comments": _comments,
    "tokens": _tokens,
    "flood": _flood,
    "deaf": _deaf,
    "bytes": _bytes,
    "redirect": _redirect,
    "huge-head": _huge_head,
    "gzip-bomb": _gzip_bomb,
    "error-event": _error_event,
    "other-id": _other_id,
    "calls": _calls,
    "huge-call": _huge_call,
    "text": _text,
    "whole": _whole,
}

"""One viewer: what becomes of it when something breaks while it reads what it has missed, or while it is written to."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, cast
from uuid import uuid4

import pytest

from parley.auth.schemas import Identity
from parley.chat.connection import Payload, Stretch, Viewer
from parley.chat.cursor import Position
from parley.chat.errors import ConversationNotFound
from parley.chat.protocol import CloseCode
from parley.core.errors import DatabaseUnavailable
from parley.core.tasks import Tasks


class Wire:
    """A peer that takes everything at once."""

    kind: ClassVar[str] = ""
    sign_of_life: Payload | None = None

    def __init__(self) -> None:
        self.written: list[Payload] = []
        self.closed: list[int] = []
        self.aborted = 0
        self.broken = False

    def frame(self, body: bytes, cursor: str | None) -> Payload:
        return body

    def write(self, payloads: Sequence[Payload]) -> None:
        if self.broken:
            raise ValueError("nothing that a peer could do")
        self.written += payloads

    async def close(self, code: CloseCode, reason: str) -> None:
        self.closed.append(code)

    def abort(self) -> None:
        self.aborted += 1


class Behind:
    """Has nothing here: everything is to be read."""

    def __init__(self, found: Exception | None = None) -> None:
        self.found = found
        self.may_end = asyncio.Event()

    def following(self, viewer: Viewer) -> Stretch | None:
        if viewer.position.rev:
            return Stretch(viewer.position, Wire, (), viewer.position, frozenset())
        return None

    async def catch_up(self, viewer: Viewer) -> Sequence[Payload]:
        await self.may_end.wait()
        if self.found is not None:
            raise self.found
        viewer.position = Position(7)
        return [b"missed"]


def viewer_of(wire: Wire, tasks: Tasks) -> Viewer:
    return Viewer(cast("Identity", None), cast("Any", wire), tasks, deadline_s=1.0, until=uuid4())


async def settled(waiting: Awaitable[Any]) -> None:
    async with asyncio.timeout(5):
        await waiting


async def test_whoever_waits_until_all_is_sent_hears_of_the_end_of_a_read() -> None:
    tasks, wire, source = Tasks(), Wire(), Behind()
    viewer = viewer_of(wire, tasks)
    viewer.go_live(source, [])
    waiting = asyncio.create_task(viewer.wait_sent())
    await asyncio.sleep(0)
    source.may_end.set()
    await settled(waiting)
    assert wire.written == [b"missed"]
    await tasks.close(1.0)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (DatabaseUnavailable(), CloseCode.TRY_LATER),
        (ConversationNotFound(), CloseCode.GONE),
        (ValueError("a fault of ours"), CloseCode.INTERNAL),
    ],
)
async def test_a_read_that_fails_ends_the_connection_and_says_why(found: Exception, code: CloseCode) -> None:
    tasks, wire, source = Tasks(), Wire(), Behind(found)
    viewer = viewer_of(wire, tasks)
    viewer.go_live(source, [])
    source.may_end.set()
    await settled(viewer.wait_ended())
    await settled(viewer.wait_sent())
    assert (wire.closed, wire.aborted, viewer.is_open) == ([code], 0, False)
    await tasks.close(1.0)


async def test_who_is_sent_away_while_it_reads_is_told_the_code() -> None:
    tasks, wire, source = Tasks(), Wire(), Behind()
    viewer = viewer_of(wire, tasks)
    viewer.go_live(source, [])
    viewer.answer(b"waits for the read")
    viewer.close(CloseCode.TOKEN_STALE, "token_revoked")
    await settled(viewer.wait_sent())
    assert (wire.closed, wire.aborted) == ([CloseCode.TOKEN_STALE], 0)
    source.may_end.set()
    await tasks.close(1.0)
    assert wire.written == [b"waits for the read"]


async def test_a_write_that_breaks_ends_this_viewer_and_no_other() -> None:
    tasks, wire, source = Tasks(), Wire(), Behind()
    viewer = viewer_of(wire, tasks)
    viewer.position = Position(1)
    viewer.go_live(source, [])
    wire.broken = True
    viewer.hint(b"typing")
    await settled(viewer.wait_sent())
    assert wire.closed == [CloseCode.INTERNAL]
    await tasks.close(1.0)

"""What happens in between: somebody comes, a history is lost, an end waits, while another is at work."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from tests.attacks.wires import Event, Socket, Stream, Talk, chatting, following, port_of, socket_to, talk, watching
from tests.chat.conftest import Rows
from tests.conftest import Start
from tests.fixtures.service import Account, Service

from parley.chat import privacy, repository, statements
from parley.chat.models import Message
from parley.chat.service import Committed
from parley.chat.sweep import Sweep
from parley.client.state import State, fold
from parley.core.clock import SystemClock
from parley.core.database import Database
from parley.core.fanout.log import Entry, TapeLog
from parley.core.ids import new_id

PATIENCE_S = 10.0
NEVER: dict[str, Any] = {"PARLEY_CHAT_SWEEP_S": "3600"}  # but for the test's own
RESTORED = "SELECT system_identifier, '000000AF' FROM pg_control_system()"


class Screen:
    """What a client shows, fed by either wire."""

    def __init__(self, wire: Socket | Stream) -> None:
        self.wire = wire
        self.state = State()
        self.cursor = ""

    async def until(self, kind: str, **fields: Any) -> list[Event]:
        """Show all events up to the first of this type; raises ContentMismatch as a client does."""
        told = await self.wire.until(kind, **fields)
        for event in told:
            self.state = fold(self.state, event)
            self.cursor = event.get("id", self.cursor)
        return told

    @property
    def shown(self) -> list[tuple[Any, ...]]:
        return [(one.id, one.row["seq"], one.role, one.status, one.content) for one in self.state.shown()]


@asynccontextmanager
async def screen(chat: Talk, query: str = "") -> AsyncIterator[Screen]:
    """Watch over a WebSocket as the owner, from the first event on."""
    async with socket_to(port_of(chat.service), chat.id, query, headers=chat.account.headers) as socket:
        yield Screen(socket)


async def stored(chat: Talk) -> list[tuple[Any, ...]]:
    return [(one["id"], one["seq"], one["role"], one["status"], one["content"]) for one in await chat.messages()]


async def invited(chat: Talk) -> Account:
    guest = await chat.service.register()
    path, body = f"/chat/conversations/{chat.id}/participants", {"user_id": guest.user["id"]}
    answer = await chat.service.http.post(path, json=body, headers=chat.account.headers)
    assert answer.status_code == 201, answer.text
    return guest


class Meanwhile:
    """A database in whose transactions something happens, once all is read and before they end."""

    def __init__(self, database: Database, happen: Callable[[], Awaitable[None]]) -> None:
        self.database, self.happen = database, happen

    @property
    def timeline(self) -> str:
        return self.database.timeline

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        async with self.database.transaction() as session:
            yield session
            await self.happen()


def sweep_of(service: Service, database: Any) -> Sweep:
    return Sweep(
        database,
        service.parts["connections"],
        settings=service.parts["settings"].chat,
        clock=SystemClock(),
        is_session_ended=lambda _: False,
        hears=lambda: True,
    )


async def test_a_guest_who_comes_while_the_sweep_reads_stays(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, **NEVER) as service, AsyncExitStack() as sockets:
        chat = await talk(service)
        owner = await sockets.enter_async_context(watching(chat))
        guest = await invited(chat)
        came: list[Socket] = []

        async def come() -> None:
            came.append(await sockets.enter_async_context(watching(chat, guest)))

        await sweep_of(service, Meanwhile(service.parts["database"], come))._read()

        for one in (owner, *came):
            await one.is_served()
        assert len(came) == 1


async def test_who_is_no_longer_invited_leaves_as_another_who_was_invited_since_comes(start_on_socket: Start) -> None:
    async with chatting(start_on_socket, **NEVER) as service, AsyncExitStack() as sockets:
        chat = await talk(service)
        leaving, staying = await invited(chat), await invited(chat)
        left = await sockets.enter_async_context(watching(chat, leaving))
        stayed = await sockets.enter_async_context(watching(chat, staying))
        path = f"/chat/conversations/{chat.id}/participants/{leaving.user['id']}"
        assert (await service.http.delete(path, headers=chat.account.headers)).status_code == 204
        await left.is_served()  # so it is the sweep that sees it
        came: list[Socket] = []

        async def come() -> None:
            came.append(await sockets.enter_async_context(watching(chat, await invited(chat))))

        await sweep_of(service, Meanwhile(service.parts["database"], come))._read()

        assert await left.end() == (4403, b"no_longer_invited")
        for one in (stayed, *came):
            await one.is_served()
        assert len(came) == 1


async def test_who_watched_a_history_that_was_lost_comes_back_to_the_one_there_is(
    start_on_socket: Start, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes on from a copy that lacks the newest commits, and takes their numbers again."""
    async with chatting(start_on_socket, **NEVER) as service:
        chat, database = await talk(service), service.parts["database"]
        await chat.answered("One")
        sweep = sweep_of(service, database)
        async with screen(chat) as before:
            await before.until("reset")
            lost = (await chat.answered("Lost"))["reply"]["id"]
            await before.until("complete", message_id=lost)
            await rows.connection.execute("DELETE FROM messages WHERE seq > 2")
            await rows.connection.execute(
                "UPDATE conversations SET last_seq = 2, rev = (SELECT max(rev) FROM messages)"
            )
            monkeypatch.setattr("parley.core.database._TIMELINE", RESTORED)
            await database.engine.dispose()  # the connections broke: whoever asks next opens a new one
            await sweep._read()
            await before.until("draining")
            assert await before.wire.end() == (1012, b"draining")  # type: ignore[union-attr]

        async with screen(chat, f"?cursor={before.cursor}") as back, screen(chat) as fresh:
            told = await back.until("reset")
            await fresh.until("reset")
            assert told[-1]["reason"] == "other_history"
            assert back.shown == fresh.shown == await stored(chat)
            assert [content for *_, content in back.shown] == ["One", "One"]
            again = (await chat.answered("Two"))["reply"]["id"]
            await sweep._read()  # the same history: nobody is sent away
            for one in (back, fresh):
                await one.until("complete", message_id=again)
                assert one.shown == await stored(chat)
                await one.wire.is_served()  # type: ignore[union-attr]


async def test_an_answer_to_somebody_who_is_erased_ends_the_same_on_every_screen(start_on_socket: Start) -> None:
    """Of what others had of it nothing stays: on both wires, and for who was away as it ended."""
    async with chatting(start_on_socket, pace_s=0.01, PARLEY_CHAT_SWEEP_S="0.2") as service:
        chat = await talk(service)
        erased = await invited(chat)
        async with screen(chat) as socket, following(chat) as stream:
            screens = [socket, Screen(stream)]
            reply = (await Talk(service, erased, chat.id).ask("endless"))["reply"]["id"]
            for one in screens:
                await one.until("token", message_id=reply)
                assert one.state.lives[reply].text
            left_at, left_with = socket.cursor, socket.state

            async with service.parts["database"].transaction() as db:
                await privacy.end_asked(db, UUID(chat.id), UUID(erased.user["id"]))

            rows = await stored(chat)
            assert rows[-1][2:] == ("assistant", "stopped", "")
            async with screen(chat, f"?cursor={left_at}") as away:
                away.state = left_with
                for one in (*screens, away):
                    told = await one.until("complete", message_id=reply)
                    assert (told[-2]["type"], told[-2]["message"]["id"]) == ("message", reply)
                    assert one.shown == rows


class Forgetful:
    """A log that first does not know."""

    def __init__(self, log: TapeLog, left: int) -> None:
        self.log, self.left = log, left

    async def read(self, positions: Sequence[tuple[str, int, int]]) -> Sequence[Sequence[Entry] | None]:
        if self.left:
            self.left -= 1
            return [None] * len(positions)
        return await self.log.read(positions)


async def test_a_log_that_does_not_answer_at_once_is_asked_again_for_a_text(start_on_socket: Start) -> None:
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        reply = (await chat.answered("What the log still has"))["reply"]
        connections: Any = service.parts["connections"]
        async with asyncio.timeout(PATIENCE_S):
            while await connections.missed.read_text(UUID(chat.id), UUID(reply["id"])) != reply["content"]:
                await asyncio.sleep(0.02)  # on its way there
        forgetful = connections.missed._log = Forgetful(connections.missed._log, 2)

        async with asyncio.timeout(PATIENCE_S):
            found = await connections.missed.read_text(UUID(chat.id), UUID(reply["id"]))

        assert (found, forgetful.left) == ("What the log still has", 0)


async def test_an_end_that_waited_for_a_question_begins_the_reply_to_it(
    start_on_socket: Start, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one statement sees nothing of what was added while it waited for the lock."""
    ended: list[Message | None] = []
    committed: list[Committed] = []

    async def end_reply(*args: Any, **kwargs: Any) -> Message | None:
        ended.append(await statements.end_reply(*args, **kwargs))
        return ended[-1]

    monkeypatch.setattr("parley.chat.ending.end_reply", end_reply)
    async with chatting(start_on_socket, pace_s=0.01) as service:
        chat, replies = await talk(service), service.parts["replies"]
        author = UUID(chat.account.user["id"])
        first = (await chat.ask("endless"))["reply"]["id"]
        follow_up = replies.follow_up

        def note(one: Committed) -> None:
            committed.append(one)
            follow_up(one)

        monkeypatch.setattr(replies, "follow_up", note)
        async with watching(chat) as socket:
            await socket.until("token", message_id=first)
            async with service.parts["database"].transaction() as db:
                conversation = await repository.lock(db, UUID(chat.id))
                assert conversation is not None
                said = {"role": "user", "content": "And then?", "author_id": author}
                question = repository.add_message(db, conversation, id=new_id(), **said)
                due = {"role": "assistant", "status": "queued", "question_id": question.id}
                queued = repository.add_message(db, conversation, id=new_id(), **due)
                await db.flush()
                replies.end_early(UUID(first), "stopped")
                await waits(rows, statements.END)
                assert ended == []
            await socket.until("complete", message_id=str(queued.id))

        assert ended[0] is None
        assert [str(one.message_id) for one in committed[0].claimed] == [str(queued.id)]
        found = [(one["status"], one["content"]) for one in await chat.messages()]
        assert [found[1][0], *found[2:]] == ["stopped", ("complete", "And then?"), ("complete", "And then?")]


async def waits(rows: Rows, statement: str) -> None:
    """Return once that statement waits for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted"
        " AND a.datname = current_database() AND a.wait_event_type = 'Lock' AND starts_with($1, left(a.query, 100))"
    )
    async with asyncio.timeout(PATIENCE_S):
        while not await rows.fetch(waiting, statement):
            await asyncio.sleep(0.02)


async def test_a_guest_of_what_is_deleted_is_told_that(start_on_socket: Start) -> None:
    """Its invitation is gone as well, which says less."""
    async with chatting(start_on_socket, **NEVER) as service:
        chat = await talk(service)
        async with watching(chat, await invited(chat)) as socket:
            async with service.parts["database"].transaction() as db:
                await db.execute(text("DELETE FROM participants WHERE conversation_id = :id"), {"id": UUID(chat.id)})
                await db.execute(
                    text("UPDATE conversations SET deleted_at = now() WHERE id = :id"), {"id": UUID(chat.id)}
                )

            await sweep_of(service, service.parts["database"])._read()

            assert await socket.end() == (4404, b"conversation_deleted")


async def test_who_comes_while_a_history_is_lost_is_sent_away_as_well(
    start_on_socket: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was given at the door is of the one that was lost."""
    async with chatting(start_on_socket, **NEVER) as service:
        chat = await talk(service)
        connections = service.parts["connections"]

        async def lose_it(*_: Any) -> None:
            connections.start_over(connections.watched[UUID(chat.id)])

        monkeypatch.setattr("parley.chat.connections.record_opening", lose_it)
        async with screen(chat) as late:
            told = [event["type"] for event in await late.until("draining")]
            assert told == ["ready", "draining"]
            assert (await late.wire.end())[0] == 1012  # type: ignore[union-attr]  # it is a socket


async def test_a_history_that_is_begun_anew_shares_nothing_of_the_lost_one(start_on_socket: Start) -> None:
    """One who has not left yet holds on to the hub that the next one is let into."""
    async with chatting(start_on_socket, **NEVER) as service:
        chat = await talk(service)
        connections: Any = service.parts["connections"]
        async with watching(chat):
            watched = connections._hold(UUID(chat.id))
            lost = watched.shared[object] = watched.last_shared = object()
            connections.start_over(watched)
        async with watching(chat):
            assert connections.watched[UUID(chat.id)] is watched
            assert not any(one is lost for one in (*watched.shared.values(), watched.last_shared))
        connections._release(watched)

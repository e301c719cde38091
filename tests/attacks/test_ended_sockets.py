"""Open sockets and streams whose right to be there ends (RELIABILITY 5: 7): closed within 5 s, and told why."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from tests.attacks.test_ended_sessions import change_password, log_out
from tests.attacks.wires import PAGE, Socket, Stream, Talk, following, port_of, socket_to, talk, ticket, watching
from tests.conftest import Start
from tests.fixtures.service import Account, Service

PROMISED_S = 5.0
STALE, FORBIDDEN, GONE = 4401, 4403, 4404
End = Callable[[Talk, Account], Awaitable[object]]


def of_session(end: Callable[[Service, Account], Awaitable[object]]) -> End:
    async def ended(chat: Talk, account: Account) -> object:
        return await end(chat.service, account)

    return ended


async def delete(chat: Talk, _: Account) -> object:
    answer = await chat.service.http.delete(f"/chat/conversations/{chat.id}", headers=chat.account.headers)
    assert answer.is_success
    return answer


async def send_away(chat: Talk, account: Account) -> object:
    path = f"/chat/conversations/{chat.id}/participants/{account.user['id']}"
    answer = await chat.service.http.delete(path, headers=chat.account.headers)
    assert answer.is_success, answer.text
    return answer


async def invite(chat: Talk, account: Account) -> None:
    path = f"/chat/conversations/{chat.id}/participants"
    body = {"user_id": account.user["id"]}
    assert (await chat.service.http.post(path, json=body, headers=chat.account.headers)).is_success


async def closed(socket: Socket, began: float) -> tuple[int | None, float]:
    code, _ = await socket.end()
    return code, time.monotonic() - began


async def ended(stream: Stream, began: float) -> tuple[str, float]:
    records = [record for record in await stream.rest() if record.data]
    assert not records[-1].is_done, "an end without right is not the end of a reply"
    last = records[-1].event
    return last["error"]["code"] if last["type"] == "error" else last["type"], time.monotonic() - began


WAYS = {
    "logged out": (of_session(log_out), STALE, "token_expired"),
    "password changed": (of_session(change_password), STALE, "token_expired"),
    "conversation deleted": (delete, GONE, "conversation_not_found"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_all_connections_end_within_5_s_here_and_on_another_worker(start_on_socket: Start, way: str) -> None:
    end, code, error_code = WAYS[way]
    async with start_on_socket() as here, start_on_socket() as there, AsyncExitStack() as stack:
        await here.parts["readiness"].wait()
        chat = await talk(here)
        elsewhere = Talk(there, chat.account, chat.id)
        sold = await ticket(here, chat.account)
        sockets = [await stack.enter_async_context(watching(one)) for one in (chat, elsewhere)]
        by_ticket = socket_to(port_of(there), chat.id, f"?ticket={sold}", headers={"Origin": PAGE})
        sockets.append(await stack.enter_async_context(by_ticket))
        streams = [await stack.enter_async_context(following(one)) for one in (chat, elsewhere)]
        bystander = await talk(here)
        unharmed = await stack.enter_async_context(watching(bystander))

        began = time.monotonic()
        await end(chat, chat.account)
        codes = await asyncio.gather(*(closed(socket, began) for socket in sockets))
        words = await asyncio.gather(*(ended(stream, began) for stream in streams))

        assert [found for found, _ in codes] == [code] * 3
        assert [found for found, _ in words] == [error_code] * 2
        latest = max(took for _, took in (*codes, *words))
        print(f"{way}: the last one ended after {latest:.2f} s")
        assert latest < PROMISED_S
        await unharmed.is_served()


async def test_who_is_no_longer_invited_is_sent_away_and_the_owner_stays(start_on_socket: Start) -> None:
    async with start_on_socket() as service:
        await service.parts["readiness"].wait()
        chat, guest = await talk(service), await service.register()
        await invite(chat, guest)
        async with watching(chat) as owner, watching(chat, guest) as theirs, following(chat, guest) as stream:
            began = time.monotonic()
            await send_away(chat, guest)
            assert (await closed(theirs, began))[0] == FORBIDDEN
            assert (await ended(stream, began))[0] == "forbidden"
            assert time.monotonic() - began < PROMISED_S
            await owner.is_served()


async def test_who_was_sent_away_can_do_nothing_in_the_seconds_until_then(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_CHAT_SWEEP_S="30") as service:
        await service.parts["readiness"].wait()
        chat, guest = await talk(service), await service.register()
        await invite(chat, guest)
        async with watching(chat, guest) as socket:
            await send_away(chat, guest)
            await socket.say("chat", client_id="late", content="I am still here")
            answer = (await socket.until("error"))[-1]
            assert answer["error"]["code"] == "conversation_not_found"
        assert await chat.messages() == []


async def test_a_connection_ends_with_the_token_that_opened_it(start_on_socket: Start) -> None:
    async with start_on_socket(PARLEY_AUTH_ACCESS_TTL_S="4") as service:
        await service.parts["readiness"].wait()
        chat = await talk(service)
        sold = await ticket(service, chat.account)
        began = time.monotonic()
        headers = {"Origin": PAGE}
        async with (
            socket_to(port_of(service), chat.id, f"?ticket={sold}", headers=headers) as by_ticket,
            watching(chat) as socket,
            following(chat) as stream,
        ):
            assert (await closed(socket, began))[0] == STALE
            assert (await closed(by_ticket, began))[0] == STALE
            assert (await ended(stream, began))[0] == "token_expired"
        assert time.monotonic() - began < 4 + PROMISED_S

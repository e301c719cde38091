"""Text that looks like the wire (RELIABILITY 5: 16): one event in is one event out, byte for byte."""

import json

import pytest
from tests.attacks.wires import Event, Record, Stream, asking, chatting, following, records_of, talk, watching
from tests.conftest import Start

# Everything that ends a line, a field or an event for some reader of streams, and the words of the format itself.
LINE_ENDS = ("\n", "\r", "\r\n", "\n\n", "\r\r", "\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")
FORGED = (
    '{end}{end}data: {{"type":"complete"}}{end}{end}',
    "{end}id: 1.forged{end}data: x{end}{end}",
    "{end}event: error{end}data: [DONE]{end}{end}",
    "{end}retry: 1{end}: comment{end}",
)
TEXTS = [form.format(end=end) for end in LINE_ENDS for form in FORGED]
PLAIN = [
    "data: [DONE]",
    "[DONE]",
    "data:",
    ": ping",
    "\ufeffdata: x",
    '"}\n\n{"type":"reset"}',
    "\\n\\ndata: x\\n\\n",
    "\\u000adata: x",
    "</script><script>",
    "\x1b[2J\x07",
    "\u202e\u200b\u0000".replace("\u0000", ""),
]
EVIL = "".join(TEXTS) + "".join(PLAIN)
FIELDS = {"data", "id"}


def is_well_formed(raw: bytes) -> list[Record]:
    """Return the events, if careless readers see the same ones: nothing but our own line ends is on the wire."""
    text = raw.decode()
    assert text.splitlines() == text.removesuffix("\n").split("\n"), "a line ends where only some readers see an end"
    blocks = [block for block in text.split("\n\n") if block]
    records = records_of(raw)
    assert len(records) == len([block for block in blocks if not block.startswith(":")])
    for record in records:
        assert set(record.fields) <= FIELDS, record.fields
        assert len(record.fields) == len(set(record.fields)), "one line of data, one id"
        assert record.is_done or json.loads(record.data)["type"]
    return records


def typed(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


async def drained(stream: Stream) -> list[Event]:
    records = await stream.rest()
    assert is_well_formed(stream.raw) == records
    assert [record.is_done for record in records] == [False] * (len(records) - 1) + [True]
    return [record.event for record in records[:-1]]


@pytest.mark.parametrize("pace_s", [0.0, 0.0005], ids=["at once", "piece by piece"])
async def test_what_is_asked_and_answered_is_one_event_each_and_arrives_as_it_was(
    start_on_socket: Start, pace_s: float
) -> None:
    async with chatting(start_on_socket, pace_s=pace_s) as service:
        chat = await talk(service)
        async with watching(chat) as socket:
            body = {"message": EVIL, "conversation_id": chat.id, "client_id": "c-1"}
            async with asking(service, chat.account, body) as stream:
                events = await drained(stream)
            over_socket = await socket.until("complete")
        for told in (events, over_socket):
            assert "".join(event["content"] for event in typed(told, "token")) == EVIL
            rows = [event["message"] for event in typed(told, "message")]
            assert [row["content"] for row in rows if row["role"] == "user"] == [EVIL]
            assert len(typed(told, "complete")) == 1
            assert len(typed(told, "start")) == 1
        stored = await chat.messages()
        assert [message["content"] for message in stored] == [EVIL, EVIL]
        async with asking(service, chat.account, body) as again:
            assert typed(await drained(again), "message")[-1]["message"]["content"] == EVIL


async def test_titles_and_names_are_inside_their_events(start_on_socket: Start) -> None:
    name = 'Ada\u2028data: {"type":"reset"}\u2029id: 1 \u0085event: x'
    async with chatting(start_on_socket) as service:
        account = await service.register("ada@shop.example")
        changed = await service.http.post(
            "/auth/register", json={"email": "eve@shop.example", "password": "correct horse battery", "name": name}
        )
        eve = changed.json()
        headers = account.headers if not changed.is_success else {"Authorization": f"Bearer {eve['access_token']}"}
        made = await service.http.post("/chat/conversations", json={"title": "x"}, headers=headers)
        path = f"/chat/conversations/{made.json()['id']}"
        refused = 0
        async with service.http.stream("GET", f"{path}/stream", headers=headers) as response:
            stream = Stream(response)
            await stream.until("reset")
            for number, text in enumerate([*TEXTS, *PLAIN]):
                title = f"{number} {text}"[:200]
                answer = await service.http.patch(path, json={"title": title}, headers=headers)
                assert answer.status_code in {200, 400, 422}, answer.text
                refused += answer.status_code != 200
                if answer.status_code == 200:
                    told = await stream.until("conversation")
                    assert told[-1]["title"] == answer.json()["title"]
            is_well_formed(stream.raw)
        print(f"{refused} of {len(TEXTS) + len(PLAIN)} titles were refused, name: {changed.status_code}")


async def test_no_text_of_a_caller_becomes_a_line_of_its_own_anywhere(start_on_socket: Start) -> None:
    """A cursor, a client_id, a request id and an unknown field come back in answers, or not at all."""
    async with chatting(start_on_socket) as service:
        chat = await talk(service)
        evil = "x\r\ndata: forged\r\n\r\n"
        for body in (
            {"message": "Hello", "client_id": evil},
            {"message": "Hello", "conversation_id": evil},
            {"message": "Hello", evil: evil},
            {"message": "\x00"},
            {"message": "Hello", "on_busy": evil},
        ):
            answer = await service.http.post("/chat/stream", json=body, headers=chat.account.headers)
            assert answer.status_code in {400, 422}
            assert b"forged" not in answer.content
        async with following(chat, query="?cursor=x%0d%0adata:%20forged%0d%0a%0d%0a") as stream:
            await stream.until("reset")
            assert b"forged" not in stream.raw
        async with watching(chat) as socket:
            await socket.say("chat", client_id=evil, content="Hello")
            refused = (await socket.until("error"))[-1]
            assert "forged" not in json.dumps(refused)
            await socket.say("chat", client_id="c-1", content="a\x00b")
            assert (await socket.until("error"))[-1]["error"]["code"] == "invalid_text"
            await socket.say("chat", client_id="c-2", content=EVIL)
            events = await socket.until("complete")
        assert "".join(event["content"] for event in typed(events, "token")) == EVIL

"""Frames of every kind at the chat's WebSocket (RELIABILITY 5: 21 to 24; the cases of Autobahn 1 to 7 and 10)."""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from tests.attacks.wires import Socket, Talk, dialled, port_of, socket_to, talk, upgrade, watching
from tests.conftest import Start
from tests.core.edge import BINARY, CLOSE, CONT, PING, PONG, TEXT, frame
from tests.fixtures.service import Service

PING_COMMAND = b'{"type":"ping"}'
LARGEST = 65_536
PROTOCOL, DATA, TOO_BIG = 1002, 1007, 1009
SPLIT = len(PING_COMMAND) // 2


def header(opcode: int, length: int, *, first: int = 0x80, masked: bool = True) -> bytes:
    """Return the head of a frame, which may be wrong in every way."""
    bit = 0x80 if masked else 0
    if length < 126:
        size = bytes([bit | length])
    elif length < 65_536:
        size = bytes([bit | 126]) + struct.pack("!H", length)
    else:
        size = bytes([bit | 127]) + struct.pack("!Q", length)
    return bytes([first | opcode]) + size + (bytes(4) if masked else b"")


def padded(length: int) -> bytes:
    """Return a good command of so many bytes."""
    return PING_COMMAND + b" " * (length - len(PING_COMMAND))


def cut(data: bytes, size: int = 1, opcode: int = TEXT) -> bytes:
    """Return a message in fragments."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(
        frame(opcode if number == 0 else CONT, piece, fin=number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    )


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


# What is said, and what the next answer is: a type of event, or an opcode with its data.
GOOD: dict[str, tuple[bytes, str | tuple[int, bytes]]] = {
    "one frame": (frame(TEXT, PING_COMMAND), "pong"),
    "two fragments": (cut(PING_COMMAND, SPLIT), "pong"),
    "every byte a fragment": (cut(PING_COMMAND), "pong"),
    "empty fragments between": (
        frame(TEXT, b"", fin=False) + frame(CONT, PING_COMMAND, fin=False) + frame(CONT),
        "pong",
    ),
    "a ping inside a message": (
        frame(TEXT, PING_COMMAND[:SPLIT], fin=False) + frame(PING, b"x") + frame(CONT, PING_COMMAND[SPLIT:]),
        (PONG, b"x"),
    ),
    "a pong inside a message": (
        frame(TEXT, PING_COMMAND[:SPLIT], fin=False) + frame(PONG, b"x") + frame(CONT, PING_COMMAND[SPLIT:]),
        "pong",
    ),
    "a ping of 125 bytes": (frame(PING, b"p" * 125), (PONG, b"p" * 125)),
    "a ping of bytes that are no text": (frame(PING, b"\x00\xff\xfe"), (PONG, b"\x00\xff\xfe")),
    "an empty ping": (frame(PING), (PONG, b"")),
    "pongs that nobody asked for": (frame(PONG) + frame(PONG, b"x" * 125) + frame(TEXT, PING_COMMAND), "pong"),
    "a length written too long": (
        bytes([0x80 | TEXT, 0x80 | 127]) + struct.pack("!Q", len(PING_COMMAND)) + bytes(4) + PING_COMMAND,
        "pong",
    ),
    "a mask that is one": (
        bytes([0x80 | TEXT, 0x80 | len(PING_COMMAND)])
        + b"\x01\x02\x03\x04"
        + bytes(byte ^ (number % 4 + 1) for number, byte in enumerate(PING_COMMAND)),
        "pong",
    ),
    "64 KiB less one": (frame(TEXT, padded(LARGEST - 1)), "pong"),
    "64 KiB": (frame(TEXT, padded(LARGEST)), "pong"),
    "64 KiB in fragments": (cut(padded(LARGEST), 1024), "pong"),
    "126 bytes": (frame(TEXT, padded(126)), "pong"),
    "an empty message": (frame(TEXT), "error"),
    "a binary message": (frame(BINARY, PING_COMMAND), "error"),
    "an empty binary message": (frame(BINARY), "error"),
    "no JSON": (frame(TEXT, b"hello"), "error"),
    "no object": (frame(TEXT, b"[1]"), "error"),
    "an unknown type": (frame(TEXT, b'{"type":"drop"}'), "error"),
    "a wrong schema": (frame(TEXT, b'{"type":"chat","client_id":7,"content":[]}'), "error"),
    "a command for nobody": (
        frame(TEXT, b'{"type":"stop","message_id":"00000000-0000-7000-8000-000000000000"}'),
        "error",
    ),
    "characters of four bytes": (frame(TEXT, '{"type":"\U0001f30d"}'.encode()), "error"),
    "a character split over fragments": (cut('{"type":"\U0001f30d\u00e9"}'.encode()), "error"),
    "the last code point": (frame(TEXT, '{"type":"\U0010ffff"}'.encode()), "error"),
    "what is no character": (frame(TEXT, '{"type":"\ufffe\uffff"}'.encode()), "error"),
    "a byte order mark": (frame(TEXT, b"\xef\xbb\xbf" + PING_COMMAND), "error"),
    "a deep array": (frame(TEXT, b"[" * 50_000), "error"),
    "a long number": (frame(TEXT, b'{"type":' + b"9" * 60_000 + b"}"), "error"),
}

INVALID_TEXT = {
    "a lone continuation byte": b"\x80",
    "overlong": b"\xc0\xaf",
    "overlong in four bytes": b"\xf0\x80\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond the last code point": b"\xf4\x90\x80\x80",
    "a byte that never comes": b"\xff",
    "cut in the middle": b"\xce\xba\xe1\xbd",
    "five bytes": b"\xf8\x88\x80\x80\x80",
}


def bad_frames() -> Iterator[tuple[str, bytes, int]]:
    """Return what breaks the protocol, and the code of the close."""
    for bit in (0x40, 0x20, 0x10, 0x70):
        yield f"reserved bits {bit:x}", header(TEXT, 2, first=0x80 | bit) + b"{}", PROTOCOL
        yield f"reserved bits {bit:x} on a ping", header(PING, 0, first=0x80 | bit), PROTOCOL
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", header(opcode, 0), PROTOCOL
        yield f"opcode {opcode} with data", header(opcode, 2) + b"{}", PROTOCOL
    yield "no mask", header(TEXT, 2, masked=False) + b"{}", PROTOCOL
    yield "a ping of 126 bytes", header(PING, 126) + b"p" * 126, PROTOCOL
    yield "a ping in fragments", frame(PING, b"x", fin=False) + frame(CONT, b"y"), PROTOCOL
    yield "a close in fragments", frame(CLOSE, b"\x03\xe8", fin=False), PROTOCOL
    yield "a continuation of nothing", frame(CONT, b"x"), PROTOCOL
    yield "an unfinished continuation of nothing", frame(CONT, b"x", fin=False), PROTOCOL
    yield "a text inside a text", frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), PROTOCOL
    yield "a binary inside a text", frame(TEXT, b"{", fin=False) + frame(BINARY, b"}"), PROTOCOL
    yield "a length of 2^63", bytes([0x80 | TEXT, 0xFF]) + b"\xff" * 8 + bytes(4), TOO_BIG
    yield "64 KiB and one", frame(TEXT, padded(LARGEST + 1)), TOO_BIG
    yield "64 KiB and one in fragments", cut(padded(LARGEST + 1), 1024), TOO_BIG
    yield "17 MB that never come", header(TEXT, 17 * 1024 * 1024) + b"x" * 1000, TOO_BIG
    yield "17 MB of bytes that never come", header(BINARY, 17 * 1024 * 1024), TOO_BIG
    for name, text in INVALID_TEXT.items():
        yield f"{name}", frame(TEXT, b'{"type":"' + text + b'"}'), DATA
        yield f"{name}, split", cut(b'{"type":"' + text + b'"}'), DATA


_COMPRESSOR = zlib.compressobj(wbits=-15)
BOMB = (_COMPRESSOR.compress(bytes(15_000_000)) + _COMPRESSOR.flush(zlib.Z_SYNC_FLUSH))[:-4]  # 15 KB of 15 MB
CLOSES = {code: code for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)}
BAD_CLOSES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)


@asynccontextmanager
async def in_talk(start_on_socket: Start) -> AsyncIterator[Talk]:
    async with start_on_socket() as service:
        await service.parts["readiness"].wait()
        yield await talk(service)


async def is_well(service: Service) -> None:
    assert (await service.http.get("/health/live")).status_code == 200


async def test_a_frame_that_is_allowed_is_answered_and_costs_the_socket_nothing(
    start_on_socket: Start, subtests: pytest.Subtests
) -> None:
    async with in_talk(start_on_socket) as chat:
        for name, (said, expected) in GOOD.items():
            with subtests.test(name):
                async with watching(chat) as socket:
                    await socket.send(said)
                    if isinstance(expected, tuple):
                        assert await socket.frame() == expected
                    else:
                        answer = await socket.event()
                        assert answer["type"] == expected, answer
                    await socket.is_served()


async def test_every_good_frame_is_understood_however_the_network_cuts_it(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat, watching(chat) as socket:
        for byte in frame(TEXT, PING_COMMAND) + cut(PING_COMMAND, 2):
            await socket.send(bytes([byte]))
            await asyncio.sleep(0)
        for _ in range(2):
            assert (await socket.event())["type"] == "pong"


async def test_a_frame_that_breaks_the_protocol_ends_the_socket_with_the_right_code(
    start_on_socket: Start, subtests: pytest.Subtests
) -> None:
    async with in_talk(start_on_socket) as chat:
        for name, said, code in bad_frames():
            with subtests.test(name):
                async with watching(chat) as socket:
                    await socket.send(said)
                    assert (await socket.end())[0] == code
                    assert await socket.rest() == b"", "nothing follows a close"
        await is_well(chat.service)


async def test_a_close_is_answered_with_its_own_code_or_with_1002(
    start_on_socket: Start, subtests: pytest.Subtests
) -> None:
    async with in_talk(start_on_socket) as chat:
        cases = [(close(code), code) for code in CLOSES] + [(close(code), PROTOCOL) for code in BAD_CLOSES]
        cases += [(frame(CLOSE), 1005), (frame(CLOSE, b"\x03"), PROTOCOL), (close(1000, b"bye"), 1000)]
        cases += [(close(1000, b"r" * 123), 1000), (header(CLOSE, 126) + b"\x03\xe8" + b"r" * 124, PROTOCOL)]
        cases += [(close(1000, b"\xff"), DATA)]
        for said, expected in cases:
            with subtests.test(said[:12].hex()):
                async with watching(chat) as socket:
                    await socket.send(said)
                    assert (await socket.end())[0] == expected
        await is_well(chat.service)


async def test_what_comes_behind_a_close_is_not_heard(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat:
        async with watching(chat) as socket:
            question = json.dumps({"type": "chat", "client_id": "late", "content": "after the close"}).encode()
            await socket.send(close(1000) + frame(TEXT, question) + frame(PING, b"x"))
            assert (await socket.end())[0] == 1000
            assert await socket.rest() == b""
        assert await chat.messages() == []


async def test_frames_before_the_socket_was_accepted_do_nothing(start_on_socket: Start) -> None:
    """Whoever does not wait for the answer may not be who it says it is."""
    async with in_talk(start_on_socket) as chat:
        question = json.dumps({"type": "chat", "client_id": "early", "content": "before the accept"}).encode()
        for headers, status in (({}, b"401"), ({"Authorization": "Bearer x"}, b"401")):
            async with dialled(port_of(chat.service)) as socket:
                await socket.send(upgrade(f"/chat/ws/{chat.id}", headers) + frame(TEXT, question) * 3)
                answer = await socket.rest()
                assert not answer or status in answer[:16]
        await asyncio.sleep(0.2)
        assert await chat.messages() == []
        await is_well(chat.service)


async def test_bad_frames_are_told_and_too_many_close_with_4400(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat, watching(chat) as socket:
        for _ in range(10):
            await socket.send(frame(TEXT, b'{"type":"nonsense"}'))
            answer = await socket.event()
            assert (answer["type"], answer["error"]["code"]) == ("error", "unknown_type")
        await socket.send(frame(BINARY, b"x"))
        assert (await socket.end())[0] == 4400


async def test_many_binary_and_empty_frames_end_as_abuse_too(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat:
        for said in (frame(BINARY, b"\x00"), frame(TEXT), frame(TEXT, b"\x00")):
            async with watching(chat) as socket:
                await socket.send(said * 30)
                assert (await socket.end())[0] == 4400


FLOODS = {
    "empty continuations": (frame(TEXT, b"{", fin=False) + frame(CONT, fin=False) * 150_000, {4400, 4429}),
    "every byte a fragment": (cut(padded(LARGEST)), {4400, 4429}),
    "a fragment without an end": (frame(TEXT, b"", fin=False) + frame(CONT, b"x" * 100, fin=False) * 10_000, {4400}),
    "pings": (frame(PING, b"x" * 125) * 50_000, {4429}),
    "pongs": (frame(PONG) * 50_000, {4429}),
    "commands": (frame(TEXT, PING_COMMAND) * 20_000, {4429}),
    "hints": (frame(TEXT, b'{"type":"typing","on":true}') * 20_000, {4429}),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_with_a_code_and_others_are_served_meanwhile(start_on_socket: Start, name: str) -> None:
    """The guard over the loop fails this test where one flood holds it for 50 ms."""
    flood, codes = FLOODS[name]
    async with in_talk(start_on_socket) as chat, watching(chat) as bystander, watching(chat) as socket:
        sending = asyncio.create_task(trickle(socket, flood), name="flood")
        worst_s, loop = 0.0, asyncio.get_running_loop()
        try:
            for _ in range(5):
                began = loop.time()
                await bystander.is_served()
                worst_s = max(worst_s, loop.time() - began)
            code, _ = await socket.end()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        print(f"{name}: {code}, a bystander waited {worst_s * 1000:.0f} ms")
        # Who still sends when we close is reset by the kernel, and may lose the code.
        assert code in {*codes, None}
        await bystander.is_served()
        async with asyncio.timeout(5):
            while chat.service.parts["seats"].taken > 1:
                await asyncio.sleep(0.01)


async def trickle(socket: Socket, data: bytes, size: int = 65_536) -> None:
    """Send in pieces, so that the sender itself does not hold the loop."""
    for start in range(0, len(data), size):
        await socket.send(data[start : start + size])
        await asyncio.sleep(0)


async def test_compression_is_not_negotiated_and_a_bomb_is_a_broken_frame(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat:
        for offer in (
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits=15, permessage-deflate",
            "x-webkit-deflate-frame",
        ):
            headers = chat.account.headers | {"Sec-WebSocket-Extensions": offer}
            async with dialled(port_of(chat.service)) as socket:
                await socket.send(upgrade(f"/chat/ws/{chat.id}", headers))
                head = await socket.reader.readuntil(b"\r\n\r\n")
                assert b" 101 " in head
                assert b"sec-websocket-extensions" not in head.lower()
                await socket.send(header(TEXT, len(BOMB), first=0xC0) + BOMB)
                assert (await socket.end())[0] == PROTOCOL


async def test_a_client_that_answers_no_close_is_let_go(start_on_socket: Start) -> None:
    async with in_talk(start_on_socket) as chat, watching(chat) as socket:
        await socket.send(header(15, 0))
        assert (await socket.end())[0] == PROTOCOL
        await socket.rest()
        seats = chat.service.parts["seats"]
        async with asyncio.timeout(5):
            while seats.taken:
                await asyncio.sleep(0.01)


async def test_a_handshake_that_is_none_is_refused(start_on_socket: Start, subtests: pytest.Subtests) -> None:
    async with in_talk(start_on_socket) as chat:
        good = upgrade(f"/chat/ws/{chat.id}", chat.account.headers)
        changes = {
            "another version": (b"Version: 13", b"Version: 12"),
            "no version": (b"Sec-WebSocket-Version: 13\r\n", b""),
            "no key": (b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n", b""),
            "a short key": (b"A" * 22 + b"==", b"AAAA"),
            "a key that is no base64": (b"A" * 22 + b"==", b"\xff" * 24),
            "POST": (b"GET /", b"POST /"),
        }
        for name, (old, new) in changes.items():
            with subtests.test(name):
                async with dialled(port_of(chat.service)) as socket:
                    await socket.send(good.replace(old, new, 1))
                    async with asyncio.timeout(5):
                        first = await socket.reader.readline()
                    assert first.split(b" ")[1] in {b"400", b"404", b"405", b"426"}, first
        async with socket_to(port_of(chat.service), chat.id, headers=chat.account.headers) as socket:
            await socket.is_served()

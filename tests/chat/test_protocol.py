"""The wire: commands, events, frames."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.frames import cases, golden, spelled

from parley.chat import protocol
from parley.chat.commands import MAX_COMMENT_CHARACTERS, MAX_CONTENT_BYTES
from parley.chat.cursor import Position, cursor_prefix, encode_cursor
from parley.chat.protocol import CLIENT_ID, BadFrame, Command, Ping, encode_command, parse_command

MESSAGE = UUID(int=7)
CURSOR = encode_cursor(cursor_prefix("1j2k3l-0000000A", MESSAGE), Position(3, MESSAGE, 1, 12))
HEAD = protocol.token_head(MESSAGE)
SECRET = "correct-horse"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
field_names = st.sampled_from(["type", "client_id", "content", "message_id", "on", "on_busy", "rating", "comment"])
types = st.sampled_from(["chat", "stop", "regenerate", "edit", "typing", "feedback", "ping"])
almost_commands = st.builds(lambda kind, rest: {**rest, "type": kind}, types, st.dictionaries(field_names, json_values))
any_text = st.text(st.characters(exclude_categories=[]), max_size=60)
wire_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("case", cases("commands"))
def test_a_good_frame_is_its_command(case: dict[str, Any]) -> None:
    command = parse_command(spelled(case["frame"]))
    assert not isinstance(command, BadFrame)
    assert msgspec.to_builtins(command) == {name: spelled(value) for name, value in case["command"].items()}
    assert command.ref == case["ref"]


@pytest.mark.parametrize("case", cases("commands"))
def test_what_a_client_encodes_is_read_back(case: dict[str, Any]) -> None:
    command = parse_command(spelled(case["frame"]))
    assert not isinstance(command, BadFrame)
    assert parse_command(encode_command(command)) == command


@pytest.mark.parametrize("case", cases("errors"))
def test_a_bad_frame_has_a_named_error(case: dict[str, Any]) -> None:
    bad = parse_command(spelled(case["frame"]))
    assert isinstance(bad, BadFrame)
    assert {"code": bad.code, "param": bad.param, "ref": bad.ref} == case["error"]


def test_each_code_of_a_bad_frame_has_a_golden_one() -> None:
    assert {case["error"]["code"] for case in golden("errors")} == {
        "invalid_json", "too_deep", "invalid_text", "not_an_object", "unknown_type", "unknown_field", "missing_field",
        "wrong_type", "invalid_value", "empty", "too_long",
    }  # fmt: skip


@given(st.binary() | any_text | almost_commands.map(json.dumps) | json_values.map(json.dumps))
def test_parsing_never_raises_and_gives_only_what_can_be_stored(data: str | bytes) -> None:
    parsed = parse_command(data)
    assert isinstance(parsed, BadFrame | Command)
    if isinstance(parsed, BadFrame):
        assert parsed.param is None or parsed.param.replace("_", "a").isalpha()
        assert parsed.ref is None or CLIENT_ID.match(parsed.ref)
        protocol.error(protocol.error_view(parsed.code, parsed.message, param=parsed.param), "r", parsed.ref)
        return
    for value in msgspec.to_builtins(parsed).values():
        if isinstance(value, str):
            assert "\0" not in value
            assert len(value.encode()) <= MAX_CONTENT_BYTES


@given(any_text)
def test_a_message_comes_through_unchanged_or_is_refused(content: str) -> None:
    parsed = parse_command(json.dumps({"type": "chat", "client_id": "c", "content": content}))
    if isinstance(parsed, BadFrame):
        assert parsed.code in {"empty", "invalid_text"}
    else:
        assert getattr(parsed, "content", None) == content.encode("utf-16", "surrogatepass").decode("utf-16")


@pytest.mark.parametrize("field", ["type", "client_id", "content", "on_busy", "other", SECRET])
def test_no_value_and_no_odd_name_is_repeated(field: str) -> None:
    for value in (SECRET + "!", {SECRET: SECRET}, [SECRET]):
        frame = {"type": "chat", "client_id": "!", "content": "x", field: value}
        assert SECRET not in repr(parse_command(json.dumps(frame)))


@pytest.mark.parametrize("character", ["x", "é", "€", "\U0001f600"])
def test_a_message_is_bounded_in_bytes(character: str) -> None:
    fits = character * (MAX_CONTENT_BYTES // len(character.encode()))
    for content, code in ((fits, None), (fits + character, "too_long")):
        parsed = parse_command(json.dumps({"type": "chat", "client_id": "c", "content": content}))
        assert getattr(parsed, "code", None) == code


@pytest.mark.parametrize("character", ["x", "€"])
def test_a_comment_is_bounded_in_characters(character: str) -> None:
    for length, code in ((MAX_COMMENT_CHARACTERS, None), (MAX_COMMENT_CHARACTERS + 1, "too_long")):
        frame = {"type": "feedback", "message_id": str(MESSAGE), "rating": "up", "comment": character * length}
        assert getattr(parse_command(json.dumps(frame)), "code", None) == code


def test_bytes_are_read_like_text() -> None:
    assert parse_command(b'{"type":"ping"}') == Ping()
    assert getattr(parse_command(b"\xff\xfe"), "code", None) == "invalid_text"


@pytest.mark.parametrize("case", cases("events"))
def test_an_event_has_its_fields_in_their_order(case: dict[str, Any]) -> None:
    args = dict(case["args"])
    if case["make"] == "token":
        args = {"head": protocol.token_head(args["message_id"]), "content": args["content"]}
    assert getattr(protocol, case["make"])(**args) == orjson.dumps(case["body"])


def test_each_event_has_a_golden_one() -> None:
    assert {case["make"] for case in golden("events")} == {
        "ready", "ack", "message", "conversation", "start", "token", "tool_call", "tool_result", "sources", "status",
        "restart", "complete", "reset", "typing", "error", "draining", "pong",
    }  # fmt: skip


@pytest.mark.parametrize("case", cases("frames"))
def test_a_frame_is_the_body_and_the_cursor(case: dict[str, Any]) -> None:
    assert protocol.ws_frame(case["body"].encode(), case["cursor"]) == case["ws"]
    assert protocol.sse_frame(case["body"].encode(), case["cursor"]) == case["sse"].encode()


@pytest.mark.parametrize("cursor", [None, CURSOR])
@given(wire_text)
def test_no_text_can_forge_a_frame(cursor: str | None, text: str) -> None:
    body = protocol.error(protocol.error_view(text, text, param=text), text, text)
    for made in (body, protocol.token(HEAD, text), protocol.tool_call(MESSAGE, text, text, text, {text: text})):
        frame = protocol.sse_frame(made, cursor)
        # However a client cuts lines.
        lines = frame.decode().splitlines()
        assert len(lines) == (2 if cursor is None else 3)
        assert lines[-1] == ""
        assert json.loads(lines[-2].removeprefix("data: ")) == json.loads(made)
        assert b"\0" not in frame
        whole = json.loads(protocol.ws_frame(made, cursor))
        assert whole.pop("id", None) == cursor
        assert whole == json.loads(made)


def test_the_cursor_is_the_first_member() -> None:
    assert next(iter(json.loads(protocol.ws_frame(protocol.pong(), CURSOR)))) == "id"


def test_times_are_utc_with_milliseconds() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678_999, timezone(timedelta(hours=2)))
    assert protocol.moment(when) == "2026-01-02T01:04:05.678Z"


def test_the_table_of_closes_is_the_one_of_all_clients() -> None:
    assert {str(int(code)): move for code, move in protocol.NEXT_MOVE.items()} == golden("close_codes")
    assert set(protocol.NEXT_MOVE) == set(protocol.CloseCode)
    assert [protocol.next_move(code) for code in (1006, 4404, 4401, 4999)] == [
        "come_back", "stay_away", "renew", "come_back",
    ]  # fmt: skip

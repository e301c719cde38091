"""Reading an answer: however its bytes were cut, the same comes out."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley.agents.clients.answer import Answer
from parley.agents.clients.port import Finish, ModelEvent, TextDelta, ToolCallDelta, Usage

BOUNDS = {"max_bytes": 3000, "max_line_bytes": 300, "max_pieces": 12}


def choice(**delta: Any) -> dict[str, Any]:
    return {"id": "a", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def finish(reason: str = "stop") -> dict[str, Any]:
    return {"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


def call(**part: Any) -> dict[str, Any]:
    return choice(tool_calls=[part])


def wire(*values: Any, end: str = "\n") -> bytes:
    lines = [value if isinstance(value, bytes) else b"data: " + msgspec.json.encode(value) for value in values]
    return b"".join(line + end.encode() * 2 for line in lines)


DONE = b"data: [DONE]"


def read(pieces: list[bytes]) -> tuple[list[ModelEvent], str | None]:
    """Return the events of a stream cut like this, and the code of its failure."""
    answer = Answer(**BOUNDS)
    events: list[ModelEvent] = []
    for piece in pieces:
        events += answer.feed(piece)
        if answer.failure or answer.is_done:
            break
    else:
        events += answer.end()
    return events, answer.failure.code if answer.failure else None


PARTS = st.sampled_from(
    [
        wire(choice(content="Hello")),
        wire(choice(content="Zoë 🌞"), end="\r\n"),
        wire(choice(content="x" * 40), end="\r"),
        wire(b'data:{"choices":[{"delta":{"content":"\\ud83c"}}]}'),
        wire(b'data: {"choices":[{"delta":{"content":"\\udf1e\\u0000"}}]}'),
        wire(call(index=0, id="c", function={"name": "f", "arguments": '{"a'})),
        wire(call(index=0, function={"arguments": '":1}'})),
        wire(choice(reasoning_content="Hm.")),
        b": ping\n\n",
        b": ping\n" * 60,
        b"event: message\r\nid: 7\r\nretry: 10\r\n",
        b'data: {"choices":\ndata: []}\n\n',
        wire({"id": "a", "choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}),
        wire(finish()),
        wire(finish("tool_calls"), end="\r\n"),
        wire(DONE),
        wire(choice(content="y" * 300)),
        b"data: " + b"z" * 400,
        wire({"id": "b", "choices": [{"delta": {"content": "of another"}}]}),
        wire({"error": {"message": "no"}}),
        wire(b"data: {"),
        wire(b'data: {"choices":[{"delta":{"content":"\xff"}}]}'),
        b"\xef\xbb\xbf",
        b"\n",
        b"\r",
    ]
)


@settings(max_examples=400)
@given(st.lists(PARTS, max_size=14).map(b"".join), st.data())
def test_any_cut_of_the_same_bytes_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    whole = read([stream])
    assert read(pieces) == whole
    assert read([stream[at : at + 1] for at in range(len(stream))]) == whole


@settings(max_examples=200)
@given(st.text(), st.integers(1, 6))
def test_text_comes_out_as_it_went_in_but_for_nul(text: str, step: int) -> None:
    chunks = [choice(content=text[at : at + step]) for at in range(0, len(text), step)]
    answer = Answer(max_bytes=10**6, max_line_bytes=10**6, max_pieces=10**6)
    events = answer.feed(wire(*chunks, finish(), DONE))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == text.replace("\0", "")


def test_the_usage_behind_the_end_belongs_to_it() -> None:
    counted = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}
    events, _ = read([wire(choice(content="a"), finish(), {"choices": [], "usage": counted}, DONE)])
    assert events == [TextDelta("a"), Finish("stop", Usage(9, 3, 8))]


def test_what_comes_behind_the_finish_reason_changes_nothing() -> None:
    events, code = read([wire(choice(content="a"), finish(), choice(content="b"), b"data: {", {"error": 1}, DONE)])
    assert (events, code) == ([TextDelta("a"), Finish("stop", None)], None)


@pytest.mark.parametrize(
    ("said", "meant"), [("end_turn", "stop"), ("max_tokens", "length"), ("function_call", "tool_calls")]
)
def test_other_words_for_the_same_reason_are_understood(said: str, meant: str) -> None:
    events, _ = read([wire(finish(said))])
    assert events == [Finish(meant, None)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "code"), [("error", "model_broken"), ("", "model_truncated"), ("hm", "model_garbled")]
)
def test_a_reason_that_is_none_is_no_end(said: str, code: str) -> None:
    assert read([wire(finish(said))]) == ([], code)


def test_who_stops_with_calls_means_to_call() -> None:
    events, _ = read([wire(call(index=0, id="c", function={"name": "f", "arguments": "{}"}), finish("stop"))])
    assert events[-1] == Finish("tool_calls", None)


def test_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    parts = [call(id=name, function={"name": name, "arguments": "{}"}) for name in "fg"]
    more = call(function={"arguments": " "})
    events, _ = read([wire(*parts, more, finish("tool_calls"))])
    assert [(event.index, event.call_id) for event in events if isinstance(event, ToolCallDelta)] == [
        (0, "f"),
        (1, "g"),
        (1, None),
    ]


def test_a_refusal_is_text() -> None:
    assert read([wire(choice(refusal="I cannot."), finish())])[0] == [TextDelta("I cannot."), Finish("stop", None)]


def test_thoughts_are_alive_and_not_told() -> None:
    answer = Answer(**BOUNDS)
    assert answer.feed(wire(choice(reasoning_content="Hm."))) == []
    assert answer.is_alive
    assert answer.feed(wire(choice(content=""), b": ping")) == []
    assert not answer.is_alive


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"error": {"code": 401}}, "model_auth"),
        ({"error": {"code": "429"}}, "model_busy"),
        ({"error": {"code": "rate_limit_exceeded"}}, "model_busy"),
        ({"error": {"code": 400}}, "model_refused"),
        ({"error": "out of memory"}, "model_broken"),
        ({"error": {}}, "model_broken"),
        ({"object": "error", "message": "bad", "code": 400}, "model_refused"),
    ],
)
def test_an_error_in_the_stream_is_named_by_its_code(error: dict[str, Any], code: str) -> None:
    assert read([wire(choice(content="a"), error, finish(), DONE)]) == ([TextDelta("a")], code)


def test_a_choice_nobody_asked_for_is_no_answer() -> None:
    assert read([wire({"choices": [{"index": 1, "delta": {"content": "b"}}]})]) == ([], "model_garbled")

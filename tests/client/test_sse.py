"""A stream of server-sent events, cut anywhere."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.chat.protocol import SSE_COMMENT, SSE_DONE, sse_frame, token, token_head
from parley.client.sse import SseEvent, SseParser, SseTooLarge

HEAD = token_head(UUID(int=7))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=6), st.lists(st.integers(0, 400))
)
def test_what_the_server_frames_comes_out_however_it_is_cut(texts: list[str], cuts: list[int]) -> None:
    bodies = [token(HEAD, text) for text in texts]
    stream = b"".join(sse_frame(body, f"c{position}") + SSE_COMMENT for position, body in enumerate(bodies)) + SSE_DONE
    parser = SseParser()
    ends = sorted({cut for cut in cuts if cut < len(stream)} | {len(stream)})
    starts = [0, *ends[:-1]]
    found = [event for start, end in zip(starts, ends, strict=True) for event in parser.feed(stream[start:end])]
    assert [event.id for event in found[:-1]] == [f"c{position}" for position in range(len(bodies))]
    assert [event.data for event in found[:-1]] == [
        sse_frame(body, None).decode().removeprefix("data: ").removesuffix("\n\n") for body in bodies
    ]
    assert found[-1].data == "[DONE]"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_in_each_of_the_three_ways_byte_by_byte(end: str) -> None:
    parser = SseParser()
    stream = f"id: 1{end}data: a{end}data:b{end}{end}: ping{end}{end}event: x{end}data:  c{end}{end}x".encode()
    found = [event for position in range(len(stream)) for event in parser.feed(stream[position : position + 1])]
    assert found == [SseEvent("a\nb", "1"), SseEvent(" c", "1")]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert SseParser().feed(b"\xef\xbb\xbfdata: a\n\n") == [SseEvent("a", None)]


def test_an_event_that_was_not_ended_does_not_count() -> None:
    assert SseParser().feed(b"data: a\n") == []


def test_an_event_without_data_is_none() -> None:
    assert SseParser().feed(b"id: 7\n\nevent: x\n\ndata\n\n") == []


def test_an_id_holds_until_the_next_and_may_be_taken_back() -> None:
    found = SseParser().feed(b"id: 7\ndata: a\n\ndata: b\n\nid: a\0b\ndata: c\n\nid\ndata: d\n\n")
    assert [event.id for event in found] == ["7", "7", "7", None]


def test_retry_is_noted_where_it_is_a_number() -> None:
    parser = SseParser()
    parser.feed(b"retry: x\n")
    assert parser.retry_ms is None
    parser.feed(b"retry: 1500\n")
    assert parser.retry_ms == 1500


@pytest.mark.parametrize("piece", [b"data: 123456789", b"data: 1\n"])
def test_an_endless_event_is_an_error(piece: bytes) -> None:
    parser = SseParser(max_event_bytes=100)
    for _ in range(4):
        parser.feed(piece)
    with pytest.raises(SseTooLarge):
        parser.feed(piece * 100)

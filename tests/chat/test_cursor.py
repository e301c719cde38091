"""Cursors of every shape: what is ours comes back exactly, everything else is nothing."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.chat.cursor import MAX_CHARACTERS, Cursor, Position, cursor_prefix, decode_cursor, encode_cursor

TIMELINE = "1y2p0ij32e8e7-00000001"
CONVERSATION, REPLY = UUID(int=0xFEDC), UUID(int=1)
GOOD = encode_cursor(cursor_prefix(TIMELINE, CONVERSATION), Position(12, REPLY, 3, 456))
positions = st.builds(
    Position, st.integers(0, 10**18 - 1), st.none() | st.uuids(), st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1)
)


def with_field(index: int, text: str) -> str:
    fields = GOOD.split(".")
    fields[index] = text
    return ".".join(fields)


@given(positions, st.uuids())
def test_what_was_encoded_comes_back_exactly(position: Position, conversation_id: UUID) -> None:
    text = encode_cursor(cursor_prefix(TIMELINE, conversation_id), position)
    assert text.isascii()
    assert len(text) <= MAX_CHARACTERS
    assert decode_cursor(text) == Cursor(TIMELINE, conversation_id, position)


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1e3", " 1", "1 ", "1_0", "", "0x1", "1.0", "٣", "１２", "²", "9" * 10, "9" * 19]
)
@pytest.mark.parametrize("index", [5, 6])
def test_a_number_of_another_form_is_nothing(index: int, text: str) -> None:
    assert decode_cursor(with_field(index, text)) is None


@pytest.mark.parametrize("text", ["-1", str(2**63), str(2**64), "9" * 19, "٣", "", "1 "])
def test_a_rev_of_another_form_is_nothing(text: str) -> None:
    assert decode_cursor(with_field(3, text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "1", GOOD + "\n", "\n" + GOOD, GOOD + "\0", GOOD[:-1] + "\n", GOOD + ".1", GOOD[2:], "2" + GOOD[1:],
        GOOD.replace(".", "/"), GOOD.upper(), GOOD + " ", "1" * 10_240, GOOD + "0" * 10_240, GOOD * 100, "\ud800",
        with_field(1, "x"), with_field(1, "1y2p0ij32e8e7-0000000g"), with_field(2, "A" * 21), with_field(2, "A" * 23),
        with_field(2, "=" * 22), with_field(2, "é" * 22), with_field(4, "A" * 21), with_field(4, "../" + "A" * 19),
    ],
)  # fmt: skip
def test_everything_else_is_nothing(text: str) -> None:
    assert decode_cursor(text) is None


def test_another_conversation_is_named_and_not_hidden() -> None:
    """Whoever asks compares: a cursor says itself to which conversation it belongs."""
    other = uuid4()
    found = decode_cursor(encode_cursor(cursor_prefix(TIMELINE, other), Position(1)))
    assert found is not None
    assert found.conversation_id == other


@given(st.text(max_size=200) | st.text("0123456789.-_abcABC\n", max_size=MAX_CHARACTERS + 2))
def test_noise_is_nothing_or_what_it_says(text: str) -> None:
    found = decode_cursor(text)
    assert found is None or _again(found) == text


@given(st.integers(0, len(GOOD)), st.integers(0, 3), st.text("0123456789.-_Az\n٣ ", max_size=4))
def test_a_changed_cursor_is_nothing_or_what_it_says(at: int, dropped: int, noise: str) -> None:
    """Only positions can be changed: nothing raises, and nothing comes back but what stands in the text."""
    text = GOOD[:at] + noise + GOOD[at + dropped :]
    found = decode_cursor(text)
    if found is not None:
        position = found.position
        assert all(number >= 0 for number in (position.rev, position.attempt, position.n))
        assert decode_cursor(_again(found)) == found


def _again(cursor: Cursor) -> str:
    return encode_cursor(cursor_prefix(cursor.timeline, cursor.conversation_id), cursor.position)

"""Decoding a chunk."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.agents.clients.wire import Chunk, NotAChunk, decode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "delta", "content", "usage", "id", "x"]), inner, max_size=3)
    ),
)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_a_chunk_or_none(payload: bytes) -> None:
    with contextlib.suppress(NotAChunk):
        assert isinstance(decode(payload), Chunk)


@given(JSON)
def test_any_json_is_a_chunk_or_none(value: object) -> None:
    with contextlib.suppress(NotAChunk):
        assert isinstance(decode(json.dumps(value).encode()), Chunk)


@pytest.mark.parametrize("payload", [b"[" * 100_000, rb'{"x":"\ud83c","y":' + b"[" * 100_000, b'{"a":' * 100_000])
def test_depth_is_no_danger(payload: bytes) -> None:
    with pytest.raises(NotAChunk):
        decode(payload)


def test_a_number_of_many_digits_is_no_danger() -> None:
    with pytest.raises(NotAChunk):
        decode(rb'{"x":"\ud83c","usage":{"prompt_tokens":' + b"9" * 100_000 + b"}}")


def test_half_a_character_is_good_json() -> None:
    chunk = decode(rb'{"choices":[{"delta":{"content":"\ud83c"}}]}')
    assert isinstance(chunk.choices, list)
    assert chunk.choices[0].delta is not None
    assert chunk.choices[0].delta.content == "\ud83c"

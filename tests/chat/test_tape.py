"""The tape of an attempt: positions by content, pieces that overlap or were cut elsewhere."""

import hashlib
from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from parley.chat.tape import ENTRY_POSITIONS, Part, Tape, length_of

MESSAGE = UUID(int=7)
texts = st.text(st.sampled_from('aé漢😀\u2028\n"\\'), min_size=1, max_size=8)
events = st.integers(0, 99).map(lambda n: b'{"type":"tool_call","n":%d}' % n)
parts = st.lists(texts | events, max_size=12)


def written(*parts: Part) -> Tape:
    tape = Tape(MESSAGE, 1)
    for part in parts:
        tape.write(part)
    return tape


def units(parts: list[Part]) -> list[Part]:
    """A position each: what two tapes have in common however they were cut."""
    return [unit for part in parts for unit in (part if isinstance(part, str) else [part])]


def all_of(tape: Tape) -> list[Part]:
    return units([part for _, part in tape.after(0)])


def piece(whole: list[Part], start: int, end: int) -> list[Part]:
    return units(whole)[start:end]


@given(parts)
def test_a_position_is_a_character_or_an_event(whole: list[Part]) -> None:
    tape = written(*whole)
    assert tape.end == len(units(whole)) == sum(length_of(part) for part in whole)
    assert tape.text() == "".join(part for part in whole if isinstance(part, str))
    assert tape.text_bytes == len(tape.text().encode())


@given(parts)
def test_what_follows_any_position_and_what_came_before_are_the_whole(whole: list[Part]) -> None:
    tape = written(*whole)
    for n in range(tape.end + 2):
        following = tape.after(n)
        assert units([part for _, part in following]) == units(whole)[n:]
        position = n
        for end, part in following:
            position += length_of(part)
            assert end == position


@given(parts)
def test_neighbouring_text_is_joined(whole: list[Part]) -> None:
    following = [part for _, part in written(*whole).after(0)]
    assert not any(isinstance(one, str) and isinstance(two, str) for one, two in pairwise(following))


@given(parts, st.data())
def test_pieces_that_fit_converge_in_any_order_and_cut_anywhere(whole: list[Part], data: st.DataObject) -> None:
    """A gap is refused and changes nothing; what overlaps is taken once."""
    source, copy = written(*whole), Tape(MESSAGE, 1)
    while copy.end < source.end:
        start = data.draw(st.integers(0, source.end))
        end = data.draw(st.integers(start, source.end))
        before = copy.end
        assert copy.merge(start, piece(whole, start, end)) is (start <= before)
        assert copy.end == (max(before, end) if start <= before else before)
        assert all_of(copy) == units(whole)[: copy.end]
        if copy.end == before:  # something must go on
            copy.merge(before, piece(whole, before, before + 1))
    assert all_of(copy) == units(whole)
    assert copy.digest() == source.digest()


@given(parts, st.data())
def test_entries_from_anywhere_carry_all_that_follows(whole: list[Part], data: st.DataObject) -> None:
    source = written(*whole)
    start = data.draw(st.integers(0, source.end))
    copy = Tape(MESSAGE, 1)
    copy.merge(0, piece(whole, 0, start))
    end, found = source.entry(start)
    assert end == source.end
    assert copy.merge(start, found)
    assert all_of(copy) == units(whole)


@given(parts, st.integers(0, 100))
def test_fold_at_any_cut_and_doubled_is_the_whole(whole: list[Part], at: int) -> None:
    """fold(snapshot, rest) == fold(all), at every cut and with every entry twice."""
    source = written(*whole)
    cut = min(at, source.end)
    copy = Tape(MESSAGE, 1)
    for start, end in ((0, cut), (cut, source.end)):
        for _ in range(2):
            assert copy.merge(start, piece(whole, start, end))
    assert all_of(copy) == all_of(source)


def test_a_long_tape_goes_in_entries_of_a_bounded_size() -> None:
    source, copy = written("漢" * (2 * ENTRY_POSITIONS + 5), b"{}"), Tape(MESSAGE, 1)
    start = rounds = 0
    while start < source.end:
        end, found = source.entry(start)
        assert end - start <= ENTRY_POSITIONS
        assert copy.merge(start, found)
        start, rounds = end, rounds + 1
    assert rounds == 3
    assert copy.text() == source.text()
    assert source.entry(source.end) == (source.end, [])


def test_nothing_is_no_part() -> None:
    tape = written("", b"")
    assert (tape.end, tape.after(0)) == (0, [])
    assert tape.merge(0, ["", "a", ""])
    assert tape.text() == "a"


def test_the_digest_is_of_the_bytes() -> None:
    text = "héllo 😀"
    assert written("hé", b"{}", "llo 😀").digest() == (11, hashlib.sha256(text.encode()).hexdigest())

"""Text that can be stored."""

from hypothesis import given
from hypothesis import strategies as st

from parley.agents.clients.storable import Storable, storable

ANY_TEXT = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\0\ud83c\udf1e"))


@given(st.lists(ANY_TEXT))
def test_whatever_comes_goes_into_a_database(pieces: list[str]) -> None:
    text = Storable()
    told = [text.push(piece) for piece in pieces]
    for piece in told:
        piece.encode()
        assert "\0" not in piece


@given(ANY_TEXT, st.integers(0, 50))
def test_a_cut_anywhere_changes_nothing(text: str, at: int) -> None:
    whole, cut = Storable(), Storable()
    assert cut.push(text[:at]) + cut.push(text[at:]) == whole.push(text)


def test_two_halves_become_one_character() -> None:
    text = Storable()
    assert [text.push("a\ud83c"), text.push("\udf1eb")] == ["a", "🌞b"]


def test_half_a_character_alone_is_dropped() -> None:
    text = Storable()
    assert [text.push("a\ud83c"), text.push("b"), text.push("\udf1ec")] == ["a", "b", "c"]
    assert storable("x\ud83cy\udf1ez\0") == "xyz"

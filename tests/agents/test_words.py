"""Stems: the same word in its usual forms is one, different words stay apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.agents.words import WORD_CHARS, stem, stems, words


@pytest.mark.parametrize(
    "forms",
    [
        "return returns returned returning returnable",
        "delivery deliveries delivered delivering deliver",
        "ship ships shipped shipping shipment shipments",
        "cancel cancels cancelled canceled cancelling cancellation",
        "size sizes sized sizing",
        "address addresses addressed",
        "damage damages damaged",
        "pay pays paying payment payments",
        "invoice invoices",
        "sustainable sustainability",
        "warranty warranties",
        "box boxes",
        "customer customer's customer\u2019s",
    ],
)
def test_forms_of_a_word_have_one_stem(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


@pytest.mark.parametrize(
    "different", ["card care", "order older", "track tree", "bus business", "sing sin", "red reed"]
)
def test_different_words_stay_apart(different: str) -> None:
    assert len({stem(word) for word in different.split()}) == 2


def test_what_carries_no_meaning_is_left_out() -> None:
    assert stems("How do I return the blue jackets, please?") == ["return", "blu", "jacket"]
    assert stems("what is it") == []
    assert words("Don\u2019t \u00dcber_all " + "x" * (WORD_CHARS + 1)) == ["don't", "\u00fcber", "all"]


@given(st.text(st.characters()))
def test_any_text_has_stems(text: str) -> None:
    assert all(stems(text))

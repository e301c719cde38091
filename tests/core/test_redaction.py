"""What is found by its look, what is left alone, and that looking costs no more than the text is long."""

import time

import pytest

from parley.core.redaction import hide, redact, redact_said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer [hidden]"),
        ("tried basic Zm9vOmJhcg==", "tried basic [hidden]"),
        ("postgresql://ada:p%40ss@host:5432/db", "postgresql://ada:[hidden]@host:5432/db"),
        ("redis://:secret@host:6379/0", "redis://:[hidden]@host:6379/0"),
        ("GET /x?q=my+order&page=1&ticket=abc", "GET /x?q=[hidden]&page=1&ticket=[hidden]"),
        ("Incorrect API key: sk-abcdefghijklmnopqrst", "Incorrect API key: [hidden]"),
        ("Key (email)=(ada@shop.example) already exists", "Key (email)=([hidden]) already exists"),
        ("refused\nDETAIL:  Failing row (1, my\nwords).\n[SQL: INSERT]", "refused\nDETAIL: [hidden]\n[SQL: INSERT]"),
        ("prt_0123456789abcdefghijkl", "[hidden]"),
        # Nothing of the kind.
        ("/chat/conversations/0198c0de-0000/messages", "/chat/conversations/0198c0de-0000/messages"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("at 12:30:45, the task took 4711 ms", "at 12:30:45, the task took 4711 ms"),
    ],
)
def test_secrets_and_addresses_are_found_by_their_look(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_what_was_said_loses_long_numbers_too() -> None:
    said = "call +49 170 1234567, card 4111-1111-1111-1111, order 4711"

    assert redact_said(said) == "call [hidden], card [hidden], order 4711"


def test_counts_of_tokens_are_no_secrets() -> None:
    line = {
        "input_tokens": 3,
        "output_tokens": "4",
        "first_token_s": "0.1",
        "access_tokens": "canary",
        "token": "canary",
    }

    assert [hide(name, value) for name, value in line.items()] == [3, "4", "0.1", "[hidden]", "[hidden]"]


@pytest.mark.parametrize("piece", ["a@", "a.", "://a:", "bearer ", "1 ", "DETAIL: ", "?q=", "eyJ"])
def test_no_text_makes_it_slow(piece: str) -> None:
    text = piece * (100_000 // len(piece)) + "@"

    began_at = time.thread_time()
    redact_said(text)

    assert time.thread_time() - began_at < 1.0

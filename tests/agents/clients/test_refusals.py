"""What a status means."""

import json
from datetime import UTC, datetime

import pytest

from parley.agents.clients.port import ModelRequest
from parley.agents.clients.refusals import loggable, parse_retry_after, refusal

QUESTION = "My order 4711 of the 3rd of May has not arrived; I am Ada Canary, 7 Example Lane, and where is it?"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        ({"retry-after": "1"}, 1.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:01:00 GMT"}, 60.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:01:00"}, 60.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Sun, 99 Mar 99999999999 12:01:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_understood_in_seconds_and_as_a_date(said: dict[str, str], wait_s: float | None) -> None:
    assert parse_retry_after(said, NOW) == wait_s


@pytest.mark.parametrize(
    ("status", "code", "is_retryable"),
    [
        (302, "model_redirected", False),
        (400, "model_refused", False),
        (401, "model_auth", False),
        (403, "model_auth", False),
        (404, "model_refused", False),
        (408, "model_refused", True),
        (429, "model_busy", True),
        (500, "model_broken", True),
        (529, "model_broken", True),
    ],
)
def test_a_status_has_a_name_and_says_whether_to_try_again(status: int, code: str, is_retryable: bool) -> None:
    error = refusal(status)
    assert (error.code, error.is_retryable, error.status) == (code, is_retryable, status)


def asking(*said: str) -> ModelRequest:
    return ModelRequest("m", [{"role": "user", "content": text} for text in said])


def test_an_empty_account_is_not_tried_again() -> None:
    assert not refusal(429, detail='{"error":{"code":"insufficient_quota"}}').is_retryable


def test_what_the_provider_said_is_cut_behind_its_secrets() -> None:
    said = loggable("x" * 495 + "sk-secret\0" * 100, "sk-secret", asking("Hello?"))
    assert said == "x" * 495 + "***" + "**"
    assert loggable("as it is", "", asking("Hello?")) == "as it is"


@pytest.mark.parametrize(
    "detail",
    [
        f"cannot answer {QUESTION!r}",
        json.dumps({"error": {"message": f"{QUESTION[20:80]}... is against our rules"}}),
        json.dumps({"error": {"message": "kein Öl für Jürgen"}}),
    ],
)
def test_what_was_asked_is_not_logged_because_a_provider_repeats_it(detail: str) -> None:
    said = loggable(detail, "", asking("kein Öl für Jürgen", QUESTION))
    assert said == "withheld: it repeats what was asked"


def test_an_error_in_its_own_words_is_logged() -> None:
    detail = '{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it."}}'
    assert loggable(detail, "", asking(QUESTION, "model")) == detail

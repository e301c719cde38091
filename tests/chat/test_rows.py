"""Rows as viewers see them: what a live reply hides, how an end is told, and the order of what was read."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.chat.model.store import Row, Talk

from parley.chat import repository
from parley.chat.changes import Change
from parley.chat.rows import change_of, conversation_change, in_order

CONVERSATION, REPLY = UUID(int=1), UUID(int=2)


def talk_and_reply(**values: Any) -> tuple[Any, Any]:
    talk = Talk(CONVERSATION, title="T", rev=4, meta_rev=1)
    shown = {"status": "streaming", "attempt": 2, "content": "secret", "shown_steps": [{"call_id": "c"}]}
    return talk, Row(REPLY, CONVERSATION, 2, 4, "assistant", **{**shown, **values})


def ended(talk: Any, reply: Any, status: str = "complete", **values: Any) -> Change:
    repository.end(talk, reply, status, **{"content": "Grüße", "tape_end": 6, **values})
    return change_of(reply)


@pytest.mark.parametrize("status", ["queued", "streaming", "stopping"])
def test_a_live_reply_shows_nothing_of_its_text(status: str) -> None:
    _, reply = talk_and_reply(status=status)
    change = change_of(reply)
    assert (change.view["content"], change.view["steps"], change.view["sources"]) == ("", [], [])
    assert change.ending is None
    assert change.is_live is (status != "queued")
    assert b"secret" not in change.body


@pytest.mark.parametrize("status", ["complete", "stopped", "failed"])
def test_an_end_names_the_attempt_the_tapes_end_and_the_text(status: str) -> None:
    change = ended(*talk_and_reply(), status, error=("broke", "It broke.", True) if status == "failed" else None)
    assert change.ending is not None
    assert (change.rev, change.ending.rev, change.ending.attempt, change.ending.tape_end) == (5, 5, 2, 6)
    told = orjson.loads(change.ending.body)
    assert (told["type"], told["status"], told["content_length"]) == ("complete", status, 7)
    assert ("error" in told) is (status == "failed")
    assert not change.is_live


def test_a_question_has_no_end() -> None:
    assert change_of(Row(REPLY, CONVERSATION, 1, 1, "user", content="Hi")).ending is None  # type: ignore[arg-type]


@pytest.mark.parametrize("is_ended", [False, True])
def test_a_change_is_the_same_after_its_way_through_redis(is_ended: bool) -> None:
    talk, reply = talk_and_reply()
    for change in (ended(talk, reply) if is_ended else change_of(reply), conversation_change(talk)):
        again = Change.from_news(orjson.loads(orjson.dumps(change.to_news())))
        assert (again.rev, again.message_id, again.ending, again.body) == (
            change.rev,
            change.message_id,
            change.ending,
            change.body,
        )


def test_what_was_read_is_in_order_with_the_conversation_among_it() -> None:
    talk, reply = talk_and_reply()
    question: Any = Row(UUID(int=3), CONVERSATION, 3, 2, "user")
    talk.meta_rev = 3
    assert [change.rev for change in in_order([change_of(reply), change_of(question)], talk, 1)] == [2, 3, 4]
    assert [change.rev for change in in_order([change_of(reply)], talk, 3)] == [4]


@given(st.integers(0, 8))
def test_an_end_that_was_rated_since_is_told_at_its_own_place(after_rev: int) -> None:
    """A viewer that never saw the end is told of it before the rows that came between; one that did, is not again."""
    talk, reply = talk_and_reply()
    ended(talk, reply)  # 5
    talk.rev = 6
    other: Any = Row(UUID(int=3), CONVERSATION, 3, 6, "assistant", status="streaming", attempt=1)
    repository.touch(talk, reply)  # 7
    found = in_order([one for one in (change_of(other), change_of(reply)) if one.rev > after_rev], talk, after_rev)
    shown = [(5, REPLY)] * (after_rev < 5) + [(6, other.id)] * (after_rev < 6) + [(7, REPLY)] * (after_rev < 7)
    assert [(change.rev, change.message_id) for change in found if change.message_id is not None] == shown
    assert all(change.view["rev"] == 7 for change in found if change.message_id == REPLY)

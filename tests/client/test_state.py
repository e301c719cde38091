"""What a client shows, from what it was told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fixtures.frames import cases, golden

from parley.chat.tape import digest
from parley.client.errors import ContentMismatch
from parley.client.state import State, fold

REPLY = "r"


def folded(events: list[dict[str, Any]], state: State | None = None) -> State:
    state = state or State()
    for event in events:
        state = fold(state, event)
    return state


def shows(state: State) -> list[dict[str, Any]]:
    return [
        {
            "id": message.id,
            "status": message.status,
            "content": message.content,
            "steps": list(message.steps),
            "sources": list(message.sources),
        }
        for message in state.shown()
    ]


@pytest.mark.parametrize("case", [case for case in cases("folds") if "shows" in case.values[0]])
def test_a_history_shows_what_it_should(case: dict[str, Any]) -> None:
    assert shows(folded(case["events"])) == case["shows"]


@pytest.mark.parametrize("case", [case for case in cases("folds") if "fault" in case.values[0]])
def test_a_torn_reply_is_found_at_its_end(case: dict[str, Any]) -> None:
    before = folded(case["events"][:-1])
    with pytest.raises(ContentMismatch) as raised:
        fold(before, case["events"][-1])
    assert raised.value.code == case["fault"]


@pytest.mark.parametrize("case", [case for case in cases("folds") if "shows" in case.values[0]])
def test_an_end_and_rows_may_be_told_twice(case: dict[str, Any]) -> None:
    twice = [
        event
        for event in case["events"]
        for _ in range(2 if event["type"] in {"message", "complete", "conversation", "reset", "ready"} else 1)
    ]
    assert shows(folded(twice)) == case["shows"]


def test_a_fold_changes_nothing_of_the_state_before() -> None:
    events = golden("folds")[1]["events"]
    states = [State()]
    for event in events:
        states.append(fold(states[-1], event))
    again = State()
    for event, state in zip(events, states, strict=False):
        assert again == state
        again = fold(again, event)


def test_a_row_that_is_told_late_does_not_bring_an_ended_reply_back() -> None:
    live = {"type": "message", "message": _row(1, "streaming", "")}
    length, sha256 = digest("done")
    end = {
        "type": "complete",
        "message_id": REPLY,
        "status": "stopped",
        "content_length": length,
        "content_sha256": sha256,
    }
    state = folded([live, _token("done"), end, live, _token("more")])
    assert shows(state) == [{"id": REPLY, "status": "stopped", "content": "done", "steps": [], "sources": []}]


def test_a_later_attempt_without_a_restart_does_not_keep_the_text() -> None:
    start = {"type": "start", "message_id": REPLY, "agent": "a", "model": "m"}
    live = {"type": "message", "message": _row(1, "streaming", "")}
    state = folded([live, {**start, "attempt": 1}, _token("old"), {**start, "attempt": 2}, _token("new")])
    assert shows(state)[0]["content"] == "new"


def test_an_end_of_what_is_not_held_changes_nothing() -> None:
    end = {"type": "complete", "message_id": REPLY, "status": "complete", "content_length": 7, "content_sha256": "x"}
    assert fold(State(), end) == State()


def test_typing_is_known_by_person() -> None:
    state = folded([_typing("a", on=True), _typing("b", on=True), _typing("a", on=False)])
    assert state.typing == {"b": "B"}


def test_a_status_is_shown_until_text_comes() -> None:
    live = {"type": "message", "message": _row(1, "streaming", "")}
    thinking = folded([live, {"type": "status", "message_id": REPLY, "state": "thinking", "label": "Thinking"}])
    assert thinking.shown()[0].label == "Thinking"
    assert folded([_token("x")], thinking).shown()[0].label == ""


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=12), st.data())
def test_any_cut_and_restart_of_a_text_comes_together_whole(pieces: list[str], data: st.DataObject) -> None:
    told: list[dict[str, Any]] = [{"type": "message", "message": _row(1, "streaming", "")}]
    torn_at = data.draw(st.integers(0, len(pieces)))
    told += [_token(piece) for piece in pieces[:torn_at]]
    told += [{"type": "restart", "message_id": REPLY, "attempt": 2}, *map(_token, pieces)]
    length, sha256 = digest("".join(pieces))
    end = {
        "type": "complete",
        "message_id": REPLY,
        "status": "complete",
        "content_length": length,
        "content_sha256": sha256,
    }
    assert shows(folded([*told, end]))[0]["content"] == "".join(pieces)
    lost = data.draw(st.integers(0, len(pieces)))
    if lost < len(pieces):
        torn = [event for position, event in enumerate(told) if position != len(told) - len(pieces) + lost]
        with pytest.raises(ContentMismatch):
            folded([*torn, end])


def _row(rev: int, status: str, content: str) -> dict[str, Any]:
    ids = {"id": REPLY, "seq": 1, "rev": rev, "role": "assistant"}
    return {**ids, "status": status, "content": content, "steps": [], "sources": []}


def _token(content: str) -> dict[str, Any]:
    return {"type": "token", "message_id": REPLY, "content": content}


def _typing(user: str, *, on: bool) -> dict[str, Any]:
    return {"type": "typing", "user": {"id": user, "name": user.upper()}, "on": on}

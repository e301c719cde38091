"""The checker of histories finds what it is there to find: one fault is planted at a time."""

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.fixtures.history import Asked, Heard, History, check

TEXT = "Good morning."
END = {"content_length": len(TEXT), "content_sha256": hashlib.sha256(TEXT.encode()).hexdigest()}
Fields = dict[str, Any]
Rows = list[Fields]


def row(message_id: str, number: int, role: str, status: str, content: str) -> Fields:
    shown = {"id": message_id, "conversation_id": "c", "seq": number, "rev": number, "role": role, "status": status}
    return {**shown, "content": content, "steps": [], "client_id": "one" if role == "user" else None, "replaces": None}


def reset(*messages: Fields) -> Fields:
    return {"type": "reset", "messages": list(messages), "has_more": False}


def token(content: str) -> Fields:
    return {"type": "token", "message_id": "r", "content": content}


QUESTION = row("q", 1, "user", "complete", "Hello?")
ENDED = {"rev": 3, "status": "complete", "content": TEXT}
REPLY = row("r", 2, "assistant", "streaming", "")
COMPLETE = {"type": "complete", "message_id": "r", "status": "complete", **END}
START, AGAIN = {"type": "start", "message_id": "r", "attempt": 1}, {"type": "start", "message_id": "r", "attempt": 2}
RESTART = {"type": "restart", "message_id": "r", "attempt": 2}


def story() -> tuple[list[Fields], Rows, list[Asked]]:
    """Return a good history: joined, asked, an attempt, another one, the end."""
    events = [
        reset(),
        {"type": "message", "message": QUESTION},
        {"type": "message", "message": REPLY},
        *(START, token("Good ev"), RESTART, AGAIN, token("Good "), token("morning."), COMPLETE),
    ]
    rows = [
        {**QUESTION, "attempt": 0, "question_id": None},
        {**REPLY, **ENDED, "attempt": 2, "question_id": "q"},
    ]
    return copy.deepcopy(events), rows, [Asked("one", "Hello?", "q", "r")]


def found(events: list[Fields], rows: Rows, asked: list[Asked]) -> list[str]:
    heard = [Heard(float(number), event) for number, event in enumerate(events)]
    history = History("tab", "u", "c", stayed=True, heard=heard, asked=asked)
    return check([history], rows)


def test_a_good_history_is_good() -> None:
    assert found(*story()) == []


Plant = Callable[[list[Fields], Rows, list[Asked]], Any]


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda events, *_: events.pop(8), "is not what its end says"),
        (lambda events, *_: events.insert(8, token("Good ")), "is not what its end says"),
        (lambda events, *_: events.append(token("!")), "after its end"),
        (lambda events, *_: events.append(COMPLETE), "a second complete"),
        (lambda events, *_: events.pop(5), "without a restart"),
        (lambda events, *_: events.pop(), "status of r is 'streaming'"),
        (lambda events, *_: events.insert(2, {"type": "message", "message": {**QUESTION, "rev": 0}}), "went back"),
        (lambda events, *_: events.append({"type": "message", "message": {**REPLY, "rev": 9}}), "to streaming"),
        (lambda events, *_: events.pop(1), "was never told of ['q']"),
        (lambda events, *_: events.pop(2), "whose row is not here"),
        (lambda events, *_: events.pop(3), "before any attempt"),
        (lambda events, *_: events.append({"type": "client_reconnecting", "reason": "content_mismatch"}), "torn"),
        (lambda _, rows, __: rows.pop(0), "is not stored"),
        (lambda _, rows, __: rows[0].update(content="Hallo?"), "was stored as"),
        (lambda _, rows, __: rows[0].update(client_id="two"), "was stored as two"),
        (lambda _, rows, __: rows.append({**rows[0], "id": "q2", "seq": 3}), "one is stored 2 times"),
        (lambda _, rows, __: rows.append({**rows[1], "id": "r2", "seq": 3}), "q was answered 2 times"),
        (lambda _, rows, __: rows[1].update(status="streaming"), "never ended"),
        (lambda _, rows, __: rows[1].update(content="Good evening."), "more was told"),
        (lambda _, __, asked: asked.append(Asked("one", "Hello?", "q", "r2")), "was answered as"),
        (lambda events, *_: events.__setitem__(9, {"type": "message", "message": {**REPLY, **ENDED}}), "no complete"),
    ],
)  # fmt: skip
def test_a_fault_is_found(plant: Plant, words: str) -> None:
    events, rows, asked = story()
    plant(events, rows, asked)
    assert any(words in line for line in found(events, rows, asked)), found(events, rows, asked)


def test_clients_that_were_told_different_texts_contradict_each_other() -> None:
    events, rows, asked = story()
    other = [{**event, "content": "Bad ev"} if event.get("content") == "Good ev" else event for event in events]
    histories = [
        History(name, "u", "c", stayed=True, heard=[Heard(0.0, event) for event in told], asked=asked)
        for name, told in (("one", events), ("other", other))
    ]
    assert check(histories, rows) == ["two texts of r, attempt 1"]

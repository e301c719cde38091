"""How a conversation looks on a terminal."""

from typing import Any

import pytest
from tests.client.scripted import READY, REPLY, RESET, complete, row, token

from parley.cli.screen import SHOWN_FIRST, Screen
from parley.client.events import RECONNECTING, Event
from parley.client.state import State, fold


class Watching:
    """A screen and the state it shows."""

    def __init__(self) -> None:
        self.screen = Screen()
        self.state = State()

    def tell(self, *events: dict[str, Any]) -> "Watching":
        for event in events:
            self.state = fold(self.state, event)
            self.screen.show(Event(event["type"], event), self.state)
        return self


def test_text_is_printed_once_as_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    watching = Watching().tell(READY, RESET, token("Hel"))
    assert capsys.readouterr().out == "user: Hello?\nHel"
    watching.tell(token("lo"), complete("Hello"))
    assert capsys.readouterr().out == "lo\n"


def test_a_final_message_prints_what_was_missing(capsys: pytest.CaptureFixture[str]) -> None:
    final = {"type": "message", "message": row(REPLY, "assistant", "complete", "Hello", 5)}
    Watching().tell(READY, RESET, token("Hel"), final, complete("Hello"))
    assert capsys.readouterr().out == "user: Hello?\nHello\n"


def test_a_restart_is_said_and_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    restart = {"type": "restart", "message_id": REPLY, "attempt": 2}
    Watching().tell(READY, RESET, token("Hel"), restart, token("Good day"), complete("Good day"))
    assert capsys.readouterr().out == "user: Hello?\nHel\nbegun anew\nGood day\n"


def test_a_reset_prints_only_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    lost = {"type": RECONNECTING, "in_s": 0.25, "reason": "closed_1006"}
    Watching().tell(READY, RESET, token("Hel"), lost, READY, RESET, token("Hello"), complete("Hello"))
    shown = capsys.readouterr().out
    assert "connection lost (closed_1006), trying again in 0.2 s\nconnected again\n" in shown
    assert shown.endswith("Hello\n")
    assert shown.count("user: Hello?") == 1


def test_how_a_reply_ended_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Watching().tell(READY, RESET, token("Hel"), {**complete("Hel"), "status": "stopped"})
    assert capsys.readouterr().out.endswith("Hel\n(stopped)\n")


def test_of_a_long_conversation_the_newest_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**row(f"m{number}", "user", "complete", f"text {number};", 1), "seq": number} for number in range(60)]
    Watching().tell(READY, {**RESET, "messages": rows})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == SHOWN_FIRST
    assert lines[0] == f"user: text {60 - SHOWN_FIRST};"


def test_nothing_that_is_said_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\x9b31m\rx\x07"
    call = {"type": "tool_call", "message_id": REPLY, "call_id": "c", "name": "n", "label": hostile}
    source = {"number": 1, "id": "s", "title": hostile, "url": hostile, "excerpt": ""}
    sources = {"type": "sources", "message_id": REPLY, "sources": [source]}
    said = {
        "type": "message",
        "message": {**row("m", "operator", "complete", hostile, 9), "author": {"id": "o", "name": hostile}},
    }
    Watching().tell(READY, RESET, call, token(hostile), sources, said, complete(hostile))
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x9b", "\r", "\x07"}
    assert shown.count("[2J31mx") == 6

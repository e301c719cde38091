"""What a client shows, from what it was told: a fold over events. Pure; unknown types and fields change nothing."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from parley.chat.protocol import LIVE
from parley.client.errors import ContentMismatch

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Live:
    """What is here of a reply that is being written."""

    attempt: int = 0
    text: str = ""
    steps: tuple[Fields, ...] = ()
    sources: tuple[Fields, ...] = ()
    label: str = ""
    """What goes on, until more text comes."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as it is shown now, whether it has ended or not."""

    id: str
    role: str
    status: str
    content: str
    steps: Sequence[Fields]
    sources: Sequence[Fields]
    label: str
    row: Fields

    @property
    def is_live(self) -> bool:
        """Whether more may come."""
        return self.status in LIVE


@dataclass(frozen=True, slots=True)
class State:
    """All a client holds of one conversation."""

    conversation: Fields | None = None
    user: Fields | None = None
    messages: Mapping[str, Fields] = field(default_factory=dict)
    lives: Mapping[str, Live] = field(default_factory=dict)
    typing: Mapping[str, str] = field(default_factory=dict)
    """Names of those who type, by id; an end of it may get lost, so whoever shows it lets it fade."""
    has_more: bool = False

    def shown(self) -> list[Shown]:
        """Return the messages in their order."""
        return [self._show(row) for row in sorted(self.messages.values(), key=lambda row: int(row["seq"]))]

    def find(self, message_id: str) -> Shown | None:
        """Return one message."""
        row = self.messages.get(message_id)
        return None if row is None else self._show(row)

    def _show(self, row: Fields) -> Shown:
        live = self.lives.get(row["id"])
        steps, sources = (row["steps"], row["sources"]) if live is None else (live.steps, live.sources)
        content, label = (row["content"], "") if live is None else (live.text, live.label)
        return Shown(row["id"], row["role"], row["status"], content, tuple(steps), tuple(sources), label, row)


def fold(state: State, event: Fields) -> State:
    """Return the state after an event; raises ContentMismatch where a reply's text is not what its end says."""
    step = _FOLDS.get(event.get("type", ""))
    return state if step is None else step(state, event)


def _ready(state: State, event: Fields) -> State:
    conversation = {**(state.conversation or {}), **event["conversation"]}
    return replace(state, conversation=conversation, user=event["user"])


def _reset(state: State, event: Fields) -> State:
    messages = {row["id"]: row for row in event["messages"]}
    return State(event["conversation"], state.user, messages, has_more=event["has_more"])


def _conversation(state: State, event: Fields) -> State:
    changed = {name: event[name] for name in ("title", "mode", "archived", "rev")}
    held = state.conversation or {}
    return state if held.get("rev", 0) > changed["rev"] else replace(state, conversation={**held, **changed})


def _message(state: State, event: Fields) -> State:
    row = event["message"]
    held = state.messages.get(row["id"])
    # The same revision again tells nothing new, and `complete` alone may have ended what it still calls live.
    if held is not None and held["rev"] >= row["rev"]:
        return state
    lives = state.lives if row["status"] in LIVE else _without(state.lives, row["id"])
    return replace(state, messages={**state.messages, row["id"]: row}, lives=lives)


def _start(state: State, event: Fields) -> State:
    live = state.lives.get(event["message_id"], Live())
    # A `restart` precedes a later attempt; should it not, its text is still another's.
    return _live(state, event, live if event["attempt"] == live.attempt else Live(event["attempt"]))


def _restart(state: State, event: Fields) -> State:
    return _live(state, event, Live(event["attempt"]))


def _token(state: State, event: Fields) -> State:
    live = state.lives.get(event["message_id"], Live())
    return _live(state, event, replace(live, text=live.text + event["content"], label=""))


def _tool_call(state: State, event: Fields) -> State:
    live = state.lives.get(event["message_id"], Live())
    step = {name: event[name] for name in ("call_id", "name", "label", "arguments") if name in event}
    return _live(state, event, replace(live, steps=(*live.steps, {**step, "ok": None, "summary": ""})))


def _tool_result(state: State, event: Fields) -> State:
    live = state.lives.get(event["message_id"], Live())
    result = {"ok": event["ok"], "summary": event["summary"]}
    steps = tuple({**step, **result} if step["call_id"] == event["call_id"] else step for step in live.steps)
    return _live(state, event, replace(live, steps=steps))


def _sources(state: State, event: Fields) -> State:
    live = state.lives.get(event["message_id"], Live())
    return _live(state, event, replace(live, sources=(*live.sources, *event["sources"])))


def _status(state: State, event: Fields) -> State:
    live = state.lives.get(event["message_id"], Live())
    return _live(state, event, replace(live, label=event["label"]))


def _live(state: State, event: Fields, live: Live) -> State:
    row = state.messages.get(event["message_id"])
    if row is not None and row["status"] not in LIVE:
        return state
    return replace(state, lives={**state.lives, event["message_id"]: live})


def _complete(state: State, event: Fields) -> State:
    message_id = event["message_id"]
    row = state.messages.get(message_id)
    if row is None or row["status"] == "deleted":
        return replace(state, lives=_without(state.lives, message_id))
    live = state.lives.get(message_id, Live())
    was_live = row["status"] in LIVE
    data = (live.text if was_live else row["content"]).encode()
    if (len(data), hashlib.sha256(data).hexdigest()) != (event["content_length"], event["content_sha256"]):
        raise ContentMismatch(message_id)
    if not was_live:
        return state
    ended = {"status": event["status"], "content": live.text, "steps": live.steps, "sources": live.sources}
    messages = {**state.messages, message_id: {**row, **ended}}
    return replace(state, messages=messages, lives=_without(state.lives, message_id))


def _typing(state: State, event: Fields) -> State:
    user = event["user"]
    others = {key: name for key, name in state.typing.items() if key != user["id"]}
    return replace(state, typing={**others, user["id"]: user["name"]} if event["on"] else others)


def _without(lives: Mapping[str, Live], message_id: str) -> Mapping[str, Live]:
    return {key: live for key, live in lives.items() if key != message_id}


_FOLDS: Mapping[str, Callable[[State, Fields], State]] = {
    "ready": _ready,
    "reset": _reset,
    "conversation": _conversation,
    "message": _message,
    "start": _start,
    "restart": _restart,
    "token": _token,
    "tool_call": _tool_call,
    "tool_result": _tool_result,
    "sources": _sources,
    "status": _status,
    "complete": _complete,
    "typing": _typing,
}

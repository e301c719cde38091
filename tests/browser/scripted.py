"""A server of the test's own behind the widget's socket: it says what the test says, and notes what it is told."""

import json
import re
from typing import Any

CONVERSATION = "01980000-0000-7000-8000-00000000c0de"
USER = {"id": "01980000-0000-7000-8000-0000000000aa", "name": "Guest", "role": "user"}


def row(seq: int, role: str, content: str, **fields: Any) -> dict[str, Any]:
    """Return a message as it is on the wire."""
    said = {
        "id": f"01980000-0000-7000-8000-{seq:012x}", "conversation_id": CONVERSATION, "seq": seq, "rev": seq,
        "role": role, "content": content, "status": "complete", "author": None, "client_id": None,
        "created_at": "2026-01-02T10:00:00.000Z", "steps": [], "sources": [], "replaces": None, "feedback": None,
    }  # fmt: skip
    return {**said, **fields}


class Scripted:
    """One page whose sockets end here; sign-in goes to the real service."""

    def __init__(self, page: Any, *rows: dict[str, Any], mode: str = "ai", has_more: bool = False) -> None:
        self.told: list[dict[str, Any]] = []
        self.sockets: list[Any] = []
        self.is_silent = False  # to sockets that come from now on
        self._rows = list(rows)
        self._mode = mode
        self._has_more = has_more
        page.route("**/auth/ticket", lambda route: route.fulfill(json={"ticket": "any", "expires_in": 30}))
        page.route_web_socket(re.compile("/chat/ws/"), self._welcome)

    def say(self, *events: dict[str, Any]) -> None:
        for event in events:
            self.sockets[-1].send(json.dumps(event))

    def _welcome(self, socket: Any) -> None:
        if self.is_silent:
            return
        self.sockets.append(socket)
        socket.on_message(self._hear)
        conversation = {"id": CONVERSATION, "title": "Jackets", "mode": self._mode, "archived": False, "rev": 1}
        self.say({"type": "ready", "protocol": 1, "conversation": conversation, "user": USER, "heartbeat_s": 25})
        reset = {"type": "reset", "reason": "join", "conversation": conversation, "has_more": self._has_more}
        self.say({**reset, "messages": self._rows, "id": "1.1"})

    def _hear(self, text: str) -> None:
        self.told.append(json.loads(text))
        if self.told[-1]["type"] == "ping":
            self.say({"type": "pong"})

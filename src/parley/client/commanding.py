"""Commands on their way: sent, sent again after each reconnect under the same id, and answered. Does no I/O."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parley.chat.protocol import BadFrame, Command, encode_command, parse_command
from parley.client.errors import CommandRefused, ParleyError
from parley.client.events import Event


@dataclass(frozen=True, slots=True)
class Taken:
    """The server's answer to a command."""

    message_id: str
    reply_id: str | None
    """None where a person answers."""
    is_duplicate: bool


@dataclass(slots=True)
class _Waiting:
    ref: str | None
    frame: str
    answer: asyncio.Future[Taken]


class Commanding:
    """The commands of one stream that have no answer yet, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    def __bool__(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._waiting)

    def add(self, command: Command) -> tuple[str, asyncio.Future[Taken]]:
        """Return the frame of a command and its answer to come; raises CommandRefused for what nobody would take."""
        try:
            frame = encode_command(command)
        except UnicodeEncodeError:
            raise CommandRefused("invalid_text", "The text has unpaired surrogates.") from None
        # The server's answer could not name what it cannot read, and nobody would know whom it is for.
        if isinstance(bad := parse_command(frame), BadFrame):
            raise CommandRefused(bad.code, bad.message)
        answer: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(command.ref, frame, answer)
        self._waiting.append(waiting)
        answer.add_done_callback(lambda _: self._waiting.remove(waiting))
        return frame, answer

    def frames(self) -> list[str]:
        """Return what a new connection is told again; a retry with the same id is the same command."""
        return [waiting.frame for waiting in self._waiting]

    def take(self, event: Event) -> None:
        """Give an answer to the command it is for."""
        if event.type not in {"ack", "error"} or (ref := event.data.get("ref")) is None:
            return
        # Two commands may be named alike, by their message; they are answered in order.
        waiting = next((one for one in self._waiting if one.ref == ref and not one.answer.done()), None)
        if waiting is None:
            return
        if event.type == "ack":
            waiting.answer.set_result(read_ack(event.data))
        else:
            error = event.data["error"]
            refused = CommandRefused(error["code"], error["message"], is_retryable=error["retryable"])
            waiting.answer.set_exception(refused)

    def fail(self, error: ParleyError) -> None:
        """Tell everybody who still waits."""
        for waiting in list(self._waiting):
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


def read_ack(data: Mapping[str, Any]) -> Taken:
    """Return what an `ack` says."""
    return Taken(data["message_id"], data["reply_id"], data["duplicate"])

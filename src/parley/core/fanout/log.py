"""The logs of the tapes in Redis: what is stored is published, in one step, and only where it continues the log.

Decides nothing about a reply: an append tells where the log ends, and its caller goes on from there.
"""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import structlog
from redis.asyncio import Redis

from parley.core.fanout.entries import End, Entry, Write
from parley.core.line import Line, is_unknown_script, pack
from parley.core.redis import REDIS_AWAY

__all__ = ["End", "Entry", "TapeLog", "Write"]

log = structlog.get_logger(__name__)

# One answer's share of a pipeline. A log of single words holds some thousands, and is then read in several steps.
READ_ENTRIES = 500


class TapeLog:
    """All logs, over two connections: what readers read back never holds up what writers write.

    At least once: an append whose answer was lost may have happened, and sent again it is told so by the end.
    """

    def __init__(self, redis: Redis, *, deadline_s: float, keep_s: float) -> None:
        """Read the script from the package: for the start of the process."""
        source = files("parley.core.fanout").joinpath("append.lua").read_text(encoding="utf-8")
        self._writing = Line(redis)
        self._reading = Line(redis)
        self._deadline_s = deadline_s
        self._keep_ms = round(keep_s * 1000)
        self._hash = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode()
        self._load = pack("SCRIPT", "LOAD", source)
        self._refused = ""

    async def append(self, writes: Sequence[Write]) -> Sequence[End | None]:
        """Answer for each write, in order, where its log ends now; None: not known, and nothing may be concluded."""
        if not writes:
            return []
        try:
            answers = await self._run([self._pack(write) for write in writes])
        except REDIS_AWAY as error:
            self._note(type(error).__name__)
            return [None] * len(writes)
        refusals = [str(answer) for answer in answers if not isinstance(answer, list)]
        self._note(refusals[0].partition(" ")[0] if refusals else "")
        return [End(*answer) if isinstance(answer, list) else None for answer in answers]

    async def read(self, positions: Sequence[tuple[str, int, int]]) -> Sequence[Sequence[Entry] | None]:
        """Answer for each (key, attempt, n) what its log holds behind that position, in order; None: not known.

        (key, 0, 0) reads from the beginning. Of a long log this is the first part: whoever gets some asks for more.
        """
        if not positions:
            return []
        commands = [pack("XRANGE", key, f"({attempt}-{n}", "+", "COUNT", READ_ENTRIES) for key, attempt, n in positions]
        try:
            answers = await self._reading.ask_all(commands, within_s=self._deadline_s)
        except REDIS_AWAY:
            return [None] * len(positions)
        return [[_entry(item) for item in answer] if isinstance(answer, list) else None for answer in answers]

    async def close(self) -> None:
        """Hang up."""
        await self._writing.close()
        await self._reading.close()

    async def _run(self, commands: list[bytes]) -> list[Any]:
        answers = await self._writing.ask_all(commands, within_s=self._deadline_s)
        unknown = [index for index, answer in enumerate(answers) if is_unknown_script(answer)]
        if unknown:
            repeats = [self._load, *(commands[index] for index in unknown)]
            _, *again = await self._writing.ask_all(repeats, within_s=self._deadline_s)
            for index, answer in zip(unknown, again, strict=True):
                answers[index] = answer
        return answers

    def _pack(self, write: Write) -> bytes:
        where = (write.attempt, write.start, write.end)
        return pack("EVALSHA", self._hash, 2, write.key, write.channel, *where, write.entry, self._keep_ms)

    def _note(self, refused: str) -> None:
        """Say it when appends begin to fail, for another reason, or work again; not once a round."""
        if refused and refused != self._refused:
            log.warning("tapes_not_logged", reason=refused)
        elif self._refused and not refused:
            log.info("tapes_logged_again")
        self._refused = refused


def _entry(item: list[Any]) -> Entry:
    attempt, _, end = item[0].partition(b"-")
    return Entry(int(attempt), int(end), item[1][1])

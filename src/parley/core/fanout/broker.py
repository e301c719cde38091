"""Hints between workers: one subscriber connection, at most once, in the order of one channel.

What is published while the connection is away, hung or too slow is lost: whoever listens also reads the truth, from
time to time and whenever it is told of a gap. A sink is called on the loop with the bytes and must not wait.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import hiredis
import structlog
from redis.exceptions import ResponseError

from parley.core.fanout.heartbeat import Heartbeat
from parley.core.fanout.link import Link
from parley.core.fanout.subscriptions import Sink, Subscriptions
from parley.core.ids import new_id
from parley.core.line import Line, pack
from parley.core.redis import REDIS_AWAY

log = structlog.get_logger(__name__)

CONFIRM_S = 0.5  # what a join waits for its subscription, then it lives on the sweep alone
DEAF_S = 2.0  # a beat a second, and one may be late
RETRY_S = 0.5
WORTH_SAYING = 2  # one connection that breaks is the network's daily life


class HeartbeatLost(ConnectionError):
    """What we published did not come back: the connection hangs, whatever it says."""


class Broker:
    """This worker's ear on the channels it asked for, and its voice."""

    def __init__(self, line: Line, deadline_s: float, boot_id: UUID | None = None) -> None:
        self._line = line
        self._deadline_s = deadline_s
        self._subscriptions = Subscriptions()
        self._changed: set[bytes] = set()
        self._confirmations: dict[bytes, asyncio.Event] = {}
        self._late: set[bytes] = set()
        self._gap_callbacks: list[Callable[[], None]] = []
        self._link: Link | None = None
        self._heartbeat: Heartbeat | None = None
        self._unrestored = 0
        self._has_missed = False
        self._failures = 0
        self._heartbeat_channel = f"parley:heartbeat:{(boot_id or new_id()).hex}"
        self.listen(self._heartbeat_channel, self._hear_heartbeat)

    @property
    def heartbeat_age_s(self) -> float:
        """How long ago we last heard ourselves; above two seconds something is wrong."""
        return asyncio.get_running_loop().time() - self._heartbeat.heard_at if self._heartbeat else 0.0

    @property
    def hears(self) -> bool:
        """Whether what others publish reaches us, as far as we know."""
        return self._heartbeat is not None and self.heartbeat_age_s < DEAF_S

    def on_gap(self, callback: Callable[[], None]) -> None:
        """Call back, on the loop, whenever something may have been missed: the truth is to be read at once."""
        self._gap_callbacks.append(callback)

    def listen(self, channel: str, sink: Sink) -> None:
        """Deliver what is published on `channel` to `sink`, from the next (re)connection on; call before `run`."""
        self._subscriptions.want(channel.encode(), sink)

    async def subscribe(self, channel: str, sink: Sink) -> bool:
        """Deliver what is published on `channel` to `sink`; True: all that is published from now on.

        False where it was not confirmed in time: it will be, by itself, and `on_gap` tells when. A second call for a
        channel replaces its sink.
        """
        name = channel.encode()
        self._subscriptions.want(name, sink)
        if self._subscriptions.is_confirmed(name):
            return True
        self._change(name)
        if self._failures >= WORTH_SAYING:
            self._late.add(name)
            return False
        try:
            async with asyncio.timeout(CONFIRM_S):
                await self._confirmations.setdefault(name, asyncio.Event()).wait()
        except TimeoutError:
            self._late.add(name)
        return self._subscriptions.is_confirmed(name)

    def unsubscribe(self, channel: str) -> None:
        """Deliver no more of `channel`."""
        name = channel.encode()
        self._subscriptions.drop(name)
        self._late.discard(name)
        if event := self._confirmations.pop(name, None):
            event.set()
        self._change(name)

    async def publish(self, channel: str, data: bytes) -> None:
        """Tell the other workers; raises what Redis raises, within the deadline."""
        answer = await self._line.ask(pack("PUBLISH", channel, data), within_s=self._deadline_s)
        if isinstance(answer, hiredis.ReplyError):
            raise ResponseError(str(answer))

    async def run(self) -> None:
        """Subscribe and dispatch until the connection breaks; the owner runs it again."""
        link = None
        try:
            async with asyncio.timeout(self._deadline_s):
                link = await Link.open(self._line.redis)
            self._begin(link)
            await self._dispatch(link)
        except REDIS_AWAY as error:
            self._failures += 1
            if self._failures == WORTH_SAYING:
                log.warning("broker_lost", reason=type(error).__name__)
        finally:
            self._link = None
            self._subscriptions.forget()
            if link is not None:
                await link.close()
        if self._failures >= WORTH_SAYING:
            await asyncio.sleep(RETRY_S)

    def _begin(self, link: Link) -> None:
        heard_at = self._heartbeat.heard_at if self._heartbeat else None
        self._heartbeat = Heartbeat(asyncio.get_running_loop().time(), heard_at)
        self._link = link
        self._unrestored = len(self._subscriptions.sinks)
        self._changed.update(self._subscriptions.sinks)
        self._flush()

    async def _dispatch(self, link: Link) -> None:
        loop, heartbeat = asyncio.get_running_loop(), self._heartbeat
        assert heartbeat is not None  # noqa: S101  # made by _begin
        while True:
            if beat := heartbeat.beat(loop.time()):
                link.send(pack("PUBLISH", self._heartbeat_channel, beat))
            timer = asyncio.timeout(heartbeat.check_in_s(loop.time()))
            try:
                async with timer:
                    for reply in await link.receive():
                        self._take(reply)
            except TimeoutError:
                if not timer.expired():
                    raise  # the socket's own
            becomes_late, is_lost = heartbeat.check(loop.time())
            if becomes_late or (self._has_missed and not self._unrestored):
                self._has_missed = False
                for callback in self._gap_callbacks:
                    callback()
            if is_lost:
                raise HeartbeatLost

    def _take(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if reply[0] == b"message":
                self._deliver(reply[1], reply[2])
            elif reply[0] in {b"subscribe", b"unsubscribe"}:
                self._confirm(reply[1])
        elif isinstance(reply, hiredis.ReplyError):
            raise ResponseError(str(reply))

    def _deliver(self, channel: bytes, data: bytes) -> None:
        sink = self._subscriptions.sinks.get(channel)
        if sink is None:
            return  # on its way when the last one left
        try:
            sink(data)
        except Exception:
            log.exception("sink_failed", channel=channel.decode())

    def _confirm(self, channel: bytes) -> None:
        self._subscriptions.answered(channel)
        if self._subscriptions.is_confirmed(channel):
            if event := self._confirmations.pop(channel, None):
                event.set()
            self._has_missed = self._has_missed or channel in self._late
            self._late.discard(channel)
        # The answers come in the order of the commands: the first ones are those to the new connection's own.
        if self._unrestored:
            self._unrestored -= 1
            if not self._unrestored:
                self._failures = 0
                self._has_missed = True

    def _change(self, channel: bytes) -> None:
        """Tell the server in a moment: what else changes in this round of the loop goes along."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._flush)
        self._changed.add(channel)

    def _flush(self) -> None:
        changed, self._changed = self._changed, set()
        if self._link is None or not self._link.is_open:
            return  # the next connection begins with all that is wanted
        subscribe, unsubscribe = self._subscriptions.changes(changed)
        if subscribe:
            self._link.send(pack("SUBSCRIBE", *subscribe))
        if unsubscribe:
            self._link.send(pack("UNSUBSCRIBE", *unsubscribe))

    def _hear_heartbeat(self, data: bytes) -> None:
        if self._heartbeat is not None:
            self._heartbeat.heard(data, asyncio.get_running_loop().time())

"""Puts the chat of a worker together. Opens nothing: what it needs is open, and stays its owner's."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis

from parley.agents.interface import Agents
from parley.chat.admission import Admission
from parley.chat.caps import Seats
from parley.chat.connections import ConnectionManager
from parley.chat.control import Control
from parley.chat.conversations import ConversationService
from parley.chat.metrics import ChatMetrics
from parley.chat.owners import Owners
from parley.chat.replicator import Replicator
from parley.chat.replies import Replies
from parley.chat.service import ChatService
from parley.chat.settings import ChatSettings
from parley.chat.sweep import Sweep
from parley.core.clock import Clock
from parley.core.database import Database
from parley.core.drain import Drain
from parley.core.fanout.broker import Broker
from parley.core.fanout.log import TapeLog
from parley.core.ids import new_id
from parley.core.instruments import Instruments
from parley.core.limits import Limiter
from parley.core.tasks import Tasks

GOODBYES_WITHIN_S = 5.0
GRACE_PART = 0.8  # of the time a drain has, for replies to finish; the rest is for handing over


@dataclass(frozen=True, slots=True)
class AssembledChat:
    """What the container hands on."""

    chat: ChatService
    conversations: ConversationService
    connections: ConnectionManager
    replies: Replies
    owners: Owners
    replicator: Replicator
    admission: Admission
    seats: Seats


def assemble_chat(  # what a worker has one of
    *,
    settings: ChatSettings,
    database: Database,
    limiter: Limiter,
    tape_log: TapeLog,
    redis: Redis,
    broker: Broker,
    agents: Agents,
    drain: Drain,
    tasks: Tasks,
    clock: Clock,
    graceful_s: float,
    is_session_ended: Callable[[UUID], bool],
    schema_settled: asyncio.Task[None],
    instruments: Instruments,
) -> AssembledChat:
    """Wire everything between a question and the screens that watch its answer."""
    boot_id = new_id()
    metrics = ChatMetrics(instruments.metrics)
    connections = ConnectionManager(
        database=database,
        broker=broker,
        tape_log=tape_log,
        tasks=tasks,
        settings=settings,
        clock=clock,
        boot_id=boot_id,
        metrics=metrics,
    )
    replicator = Replicator(tape_log, boot_id, clock, metrics)
    control = Control(redis, boot_id)
    admission = Admission(settings, drain, instruments.pulse, metrics)
    replies = Replies(
        database=database,
        connections=connections,
        replicator=replicator,
        control=control,
        agents=agents,
        admission=admission,
        tasks=tasks,
        settings=settings,
        clock=clock,
        boot_id=boot_id,
        metrics=metrics,
        telemetry=instruments.telemetry,
    )
    chat = ChatService(
        database=database, limiter=limiter, settings=settings, boot_id=boot_id, desk=replies, metrics=metrics
    )
    owners = Owners(database, replies, tasks, clock, boot_id=boot_id, metrics=metrics)
    sweep = Sweep(
        database,
        connections,
        settings=settings,
        clock=clock,
        is_session_ended=is_session_ended,
        hears=lambda: broker.hears,
    )

    broker.on_gap(sweep.look_now)

    async def obey() -> None:
        await control.listen(lambda message_id: replies.end_early(message_id, "stopped"))

    async def beat() -> None:
        await asyncio.wait({schema_settled})
        await owners.run()

    async def finish() -> None:
        goodbyes = connections.drain(min(GOODBYES_WITHIN_S, graceful_s / 4))
        try:
            await asyncio.gather(goodbyes, replies.hand_over(graceful_s * GRACE_PART))
        finally:  # also where the database hangs, and the time is up
            connections.end_everything()

    drain.finish(finish)
    tasks.keep("send tapes", replicator.run)
    tasks.keep("beat and watch", beat)
    tasks.keep("obey", obey)
    tasks.keep("sweep", sweep.run)
    instruments.readings.state(metrics.live_replies, lambda: len(replies.running))
    instruments.readings.step(metrics.tell)
    return AssembledChat(
        chat=chat,
        conversations=ConversationService(database, clock, replies.follow_up, metrics),
        connections=connections,
        replies=replies,
        owners=owners,
        replicator=replicator,
        admission=admission,
        seats=Seats(settings, metrics),
    )

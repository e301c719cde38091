"""Opens every resource of a worker once, in order, and closes it in reverse. What the lifespan yields.

Nothing here waits for PostgreSQL or Redis: a worker starts and stays up while they are away.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypedDict

import structlog
from openai import AsyncOpenAI
from redis.asyncio import Redis

from parley.agents.assembly import assemble_agents
from parley.agents.calls import CallService
from parley.agents.clients.openai import open_openai, ping
from parley.agents.interface import Agents
from parley.agents.service import AgentService
from parley.auth.audit_service import AuditService
from parley.auth.dependencies import Gate
from parley.auth.passwords import PasswordHasher
from parley.auth.revocation import Revocations
from parley.auth.service import AuthService
from parley.auth.sites import Sites
from parley.auth.sites_identity import SiteIdentities
from parley.auth.sites_service import SiteService
from parley.auth.tickets import Tickets
from parley.auth.tokens import TokenCodec
from parley.chat.assembly import assemble_chat
from parley.chat.caps import Seats
from parley.chat.connections import ConnectionManager
from parley.chat.conversations import ConversationService
from parley.chat.inheritance import hand_over
from parley.chat.replies import Replies
from parley.chat.service import ChatService
from parley.core import audit
from parley.core.clock import Clock, SystemClock
from parley.core.database import Database
from parley.core.drain import Drain
from parley.core.errors import DatabaseUnavailable
from parley.core.exposition import Exposition
from parley.core.fanout.broker import Broker
from parley.core.fanout.log import TapeLog
from parley.core.health import Finding, Health, Readiness
from parley.core.instruments import Instruments
from parley.core.limits import Limiter
from parley.core.line import Line
from parley.core.memory import resident_bytes
from parley.core.migrations import migrate, needed_revision, present_revision
from parley.core.ops import Ops
from parley.core.origins import Origins
from parley.core.redis import open_redis
from parley.core.tasks import Tasks
from parley.core.telemetry import Telemetry
from parley.pages.assets import Assets, load_assets
from parley.privacy.erasure import Erasure
from parley.privacy.export import Export
from parley.settings import Settings

log = structlog.get_logger(__name__)

TASKS_CLOSE_S = 5.0
SCHEMA_RETRY_S = 0.2
SCHEMA_FAILED_S = 5.0  # each failure is a whole migration that was tried, and a traceback
CHECK_DEADLINE_S = 1.0
CHECK_KEEP_S = 2.0
MEMORY_EVERY_S = 5.0
MODEL_CHECK_KEEP_S = 60.0  # a provider counts every call


class Parts(TypedDict):
    """What requests reach through `request.state`."""

    settings: Settings
    readiness: Readiness
    drain: Drain
    health: Health
    ops: Ops
    exposition: Exposition
    database: Database
    redis: Redis
    openai: AsyncOpenAI
    limiter: Limiter
    gate: Gate
    auth: AuthService
    audit: AuditService
    sites: Sites
    site_service: SiteService
    site_identities: SiteIdentities
    agents: Agents
    agent_service: AgentService
    model_calls: CallService
    chat: ChatService
    conversations: ConversationService
    connections: ConnectionManager
    replies: Replies
    seats: Seats
    assets: Assets
    export: Export
    erasure: Erasure
    telemetry: Telemetry
    tasks: Tasks


@asynccontextmanager
async def open_container(
    settings: Settings, readiness: Readiness, drain: Drain, origins: Origins, instruments: Instruments
) -> AsyncIterator[Parts]:
    """Yield the parts of this worker."""
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        assets = await asyncio.to_thread(load_assets)  # packed and hashed: more than the loop may be held for
        # Closed last: whatever closes may still have something to tell.
        stack.push_async_callback(instruments.telemetry.close)
        database = Database(settings.database, instruments.telemetry)
        stack.push_async_callback(database.close)
        redis = open_redis(settings.redis)
        stack.push_async_callback(redis.aclose)
        line = Line(redis, instruments.telemetry)
        stack.push_async_callback(line.close)
        openai = open_openai(settings.agents)
        stack.push_async_callback(openai.close)
        hasher = PasswordHasher(settings.auth)
        stack.callback(hasher.close)
        tape_log = TapeLog(redis, deadline_s=settings.redis.timeout_s, keep_s=settings.chat.tape_keep_s)
        stack.push_async_callback(tape_log.close)
        calls = CallService(database, clock)
        stack.push_async_callback(calls.close)
        # Closed first: whatever runs beside the requests needs all of the above.
        tasks = Tasks()
        stack.push_async_callback(tasks.close, TASKS_CLOSE_S)

        broker = Broker(line, settings.redis.timeout_s)
        revocations = Revocations(database, broker, settings.auth, clock)
        secrets = [secret.get_secret_value() for secret in settings.auth.secrets]
        codec = TokenCodec(secrets, settings.auth.issuer, settings.auth.audience)
        tickets = Tickets(codec, redis, origins, settings.auth, clock)
        gate = Gate(codec, revocations, tickets, origins, clock)
        auth = AuthService(
            database=database, hasher=hasher, codec=codec, revocations=revocations, settings=settings.auth, clock=clock
        )
        sites = Sites(database, broker, origins, settings.auth)
        identities = SiteIdentities(
            database=database, auth=auth, revocations=revocations, hand_over=hand_over, clock=clock
        )
        agents = assemble_agents(
            settings=settings.agents,
            openai=openai,
            line=line,
            database=database,
            calls=calls,
            tasks=tasks,
            clock=clock,
            instruments=instruments,
        )
        settled = tasks.spawn("settle schema", _settle_schema(settings, database, readiness, needed_revision()))
        limiter = Limiter(line, settings.limits, gate.identify, instruments.metrics.limits_hit)
        chat = assemble_chat(
            settings=settings.chat,
            database=database,
            limiter=limiter,
            tape_log=tape_log,
            redis=redis,
            broker=broker,
            agents=agents.runner,
            drain=drain,
            tasks=tasks,
            clock=clock,
            graceful_s=settings.server.graceful_s,
            is_session_ended=lambda session_id: revocations.reason(session_id) is not None,
            schema_settled=settled,
            instruments=instruments,
        )
        health = Health(clock, tasks)
        _register_checks(
            health, settings, database=database, redis=redis, openai=openai, hasher=hasher, limiter=limiter
        )

        async def watch_revocations() -> None:
            await asyncio.wait({settled})
            await revocations.watch()

        async def watch_sites() -> None:
            await asyncio.wait({settled})
            await sites.watch()

        tasks.keep("hear other workers", broker.run)
        tasks.keep("watch revocations", watch_revocations)
        tasks.keep("watch sites", watch_sites)
        _read_states(instruments, database=database, broker=broker, tickets=tickets, tasks=tasks, clock=clock)
        tasks.keep("feel the pulse", instruments.pulse.feel)
        tasks.keep("take readings", instruments.readings.run)
        yield Parts(
            settings=settings,
            readiness=readiness,
            drain=drain,
            health=health,
            ops=Ops(settings.server),
            exposition=instruments.exposition,
            database=database,
            redis=redis,
            openai=openai,
            limiter=limiter,
            gate=gate,
            auth=auth,
            audit=AuditService(database),
            sites=sites,
            site_service=SiteService(database, sites, clock),
            site_identities=identities,
            agents=agents.runner,
            agent_service=agents.service,
            model_calls=calls,
            chat=chat.chat,
            conversations=chat.conversations,
            connections=chat.connections,
            replies=chat.replies,
            seats=chat.seats,
            assets=assets,
            export=Export(database, clock),
            erasure=Erasure(
                database=database,
                redis=redis,
                revocations=revocations,
                revocation_poll_s=settings.auth.revocation_poll_s,
                clock=clock,
            ),
            telemetry=instruments.telemetry,
            tasks=tasks,
        )


async def _settle_schema(settings: Settings, database: Database, readiness: Readiness, needed: str) -> None:
    """Find out whether the schema is the one this code needs; in embedded mode, make it so.

    A database that is away says nothing about the schema, and is no reason to be taken out of the load balancer;
    embedded, it is still starting, and nobody else asks.
    """
    database.is_settled = False
    while True:
        pause_s = SCHEMA_RETRY_S if settings.embedded else SCHEMA_RETRY_S * 10
        try:
            if await _has_schema(settings, database, readiness, needed):
                break
        except DatabaseUnavailable:
            if not settings.embedded:
                readiness.clear("starting")
        except Exception:  # the database ended in the middle of a migration, or rights are missing: that may be mended
            log.exception("schema_unsettled")
            pause_s = SCHEMA_FAILED_S
        await asyncio.sleep(pause_s)
    database.is_settled = True
    readiness.clear("schema_behind")
    readiness.clear("starting")


async def _has_schema(settings: Settings, database: Database, readiness: Readiness, needed: str) -> bool:
    url, present = settings.database.url, await present_revision(database)
    if present is not None and present >= needed:
        return True
    readiness.block("schema_behind")
    readiness.clear("starting")
    if not settings.embedded or url is None:
        log.warning("schema_behind", present=present, needed=needed, next_step="run: parley migrate")
        return False
    await asyncio.to_thread(migrate, url.get_secret_value())
    log.info("schema_migrated", was=present, now=needed)
    return True


def _read_states(
    instruments: Instruments, *, database: Database, broker: Broker, tickets: Tickets, tasks: Tasks, clock: Clock
) -> None:
    metrics, readings = instruments.metrics, instruments.readings
    readings.state(metrics.tasks, lambda: len(tasks))
    readings.state(metrics.pubsub_age, lambda: broker.heartbeat_age_s)
    readings.state(metrics.db_connections.labels("used"), lambda: database.connections_used)
    readings.state(metrics.db_connections.labels("idle"), lambda: database.connections_idle)
    readings.count(metrics.db_timeouts, lambda: database.pool_timeouts)
    readings.count(metrics.tickets_unchecked, lambda: tickets.unchecked)
    database.lend(**{audit.COUNTER: metrics.audit_events})
    metrics.db_limit.set(database.connections_most)

    async def weigh() -> None:
        while True:
            metrics.memory.set(await asyncio.to_thread(resident_bytes))
            await clock.sleep(MEMORY_EVERY_S)

    tasks.keep("weigh memory", weigh)


def _register_checks(
    health: Health,
    settings: Settings,
    *,
    database: Database,
    redis: Redis,
    openai: AsyncOpenAI,
    hasher: PasswordHasher,
    limiter: Limiter,
) -> None:
    async def check_database() -> Finding:
        await database.ping()
        return Finding("ok")

    async def check_redis() -> Finding:
        await redis.ping()
        return Finding("ok" if limiter.is_shared else "degraded", "" if limiter.is_shared else "limits are per worker")

    async def check_model() -> Finding:
        known = await ping(openai, settings.agents.name)
        return Finding("ok") if known else Finding("degraded", f"the provider does not list {settings.agents.name}")

    async def check_queue() -> Finding:
        waiting, room = hasher.waiting, hasher.capacity
        return Finding("ok" if waiting < room else "degraded", f"{waiting} of {room} passwords waiting")

    health.register("database", check_database, is_required=True, deadline_s=CHECK_DEADLINE_S, keep_s=CHECK_KEEP_S)
    health.register("redis", check_redis, is_required=False, deadline_s=CHECK_DEADLINE_S, keep_s=CHECK_KEEP_S)
    health.register("queue", check_queue, is_required=False, deadline_s=CHECK_DEADLINE_S, keep_s=0)
    if not settings.agents.is_demo:
        deadline_s = settings.agents.check_timeout_s
        health.register("model", check_model, is_required=False, deadline_s=deadline_s, keep_s=MODEL_CHECK_KEEP_S)

"""Health: what load balancers, orchestrators and people ask."""

from typing import Annotated, Literal

from fastapi import Depends, Response
from starlette.requests import HTTPConnection

from parley.core.health import Health, Readiness
from parley.core.limits import Unlimited
from parley.core.ops import Ops
from parley.core.routing import api_router
from parley.core.schemas import Schema

router = api_router("/health", "health")


class Liveness(Schema):
    """The loop turns; nothing else is asked."""

    status: Literal["alive"] = "alive"


class ReadinessView(Schema):
    """Whether this worker takes requests, and what is in the way."""

    status: Literal["ready", "not_ready"]
    reasons: list[str]


class ComponentView(Schema):
    """One component, as last checked."""

    status: Literal["ok", "degraded", "down"]
    detail: str
    latency_ms: float | None


class HealthView(Schema):
    """The service; components only for those who run it."""

    status: Literal["ok", "degraded", "down"]
    components: dict[str, ComponentView] | None = None


async def _readiness(connection: HTTPConnection) -> Readiness:
    readiness: Readiness = connection.state.readiness
    return readiness


async def _health(connection: HTTPConnection) -> Health:
    health: Health = connection.state.health
    return health


async def _may_look(connection: HTTPConnection) -> bool:
    ops: Ops = connection.state.ops
    return ops.may_look(connection)


@router.get("/live")
async def live(_: Unlimited) -> Liveness:
    """Answer as long as the event loop does."""
    return Liveness()


@router.get("/ready", responses={503: {"model": ReadinessView, "description": "Not ready"}})
async def ready(
    _: Unlimited, response: Response, readiness: Annotated[Readiness, Depends(_readiness)]
) -> ReadinessView:
    """Tell whether this worker takes requests. Local state only: a store that is away does not count."""
    reasons = list(readiness.reasons)
    if reasons:
        response.status_code = 503
    return ReadinessView(status="not_ready" if reasons else "ready", reasons=reasons)


@router.get("", responses={503: {"model": HealthView, "description": "A required component is down"}})
async def health(
    _: Unlimited,
    response: Response,
    health: Annotated[Health, Depends(_health)],
    may_look: Annotated[bool, Depends(_may_look)],
) -> HealthView:
    """Tell how the service and its components are, from checks that are remembered for a moment."""
    status, found = await health.report()
    if status == "down":
        response.status_code = 503
    components = {
        name: ComponentView(status=f.status, detail=f.detail, latency_ms=f.latency_ms) for name, f in found.items()
    }
    return HealthView(status=status, components=components if may_look else None)

"""Health: what load balancers, orchestrators and people ask."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

router = APIRouter(prefix="/health", tags=["health"])


class Liveness(BaseModel):
    """The loop turns; nothing else is asked."""

    status: Literal["alive"] = "alive"


@router.get("/live")
async def live() -> Liveness:
    """Answer as long as the event loop does."""
    return Liveness()

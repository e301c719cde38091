"""What the routes of agents ask the container for."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from parley.agents.calls import CallService
from parley.agents.service import AgentService


async def _service(connection: HTTPConnection) -> AgentService:
    service: AgentService = connection.state.agent_service
    return service


async def _calls(connection: HTTPConnection) -> CallService:
    service: CallService = connection.state.model_calls
    return service


Service = Annotated[AgentService, Depends(_service)]
Calls = Annotated[CallService, Depends(_calls)]

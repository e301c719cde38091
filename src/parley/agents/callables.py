"""Agents that are somebody's own code: an async generator that takes the turn and yields our events.

Which one is named by an admin, so nothing but an async generator is ever called, and what it yields is checked.
"""

import importlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, get_args

import structlog

from parley.agents.clients.storable import storable
from parley.agents.definition import PYTHON
from parley.agents.failures import AGENT_FAILED, fail
from parley.agents.interface import Event, Failed, Finished, TextGrew, Turn

log = structlog.get_logger(__name__)

Agent = Callable[[Turn], AsyncIterator[Event]]
EVENTS = get_args(Event)


class AgentError(Exception):
    """What an agent's kind names cannot be used; the message is for the person who wrote it."""


def load_callable(kind: str) -> Agent:
    """Import `python:package.module:function`; raise AgentError. Blocks: call it off the loop."""
    module, _, name = kind.removeprefix(PYTHON).partition(":")
    if not kind.startswith(PYTHON) or not module or not name:
        raise AgentError("a kind looks like python:package.module:function")
    try:
        target = getattr(importlib.import_module(module), name)
    except Exception as error:  # importing runs foreign code, which may fail in any way
        raise AgentError(f"{module}:{name} cannot be imported ({type(error).__name__})") from error
    if not (inspect.isasyncgenfunction(target) or inspect.isasyncgenfunction(getattr(target, "__call__", None))):  # noqa: B004  # asks what kind of function it is, not whether it is one
        raise AgentError(f"{module}:{name} is no async generator")
    agent: Agent = target
    return agent


async def run_callable(agent: Agent, turn: Turn) -> AsyncGenerator[Event, None]:
    """Yield the agent's events until it ends; whatever it does wrong is a failure with a name."""
    events: Any = agent(turn)
    async with aclosing(events):
        try:
            async for event in events:
                checked = _check(event)
                if checked is not None:
                    yield checked
                if isinstance(checked, Finished | Failed):
                    return
        except Exception:  # foreign code: the reply fails, the worker goes on
            log.exception("agent_failed")
        else:
            log.error("agent_ended_early")
    yield fail(AGENT_FAILED)


def _check(event: Any) -> Event | None:
    if not isinstance(event, EVENTS):
        raise TypeError(f"an agent yields events of the interface, not {type(event).__name__}")
    if isinstance(event, TextGrew):
        text = storable(event.text)
        return replace(event, text=text) if text else None
    checked: Event = event
    return checked

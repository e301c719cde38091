"""Agents that are somebody's own code: an async generator that takes the turn and yields our events.

Which one is named by an admin, so nothing but an async generator is ever called, and what it yields is checked.
"""

import asyncio
import importlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast, get_args

import structlog

from parley.agents.clients.port import TOO_LONG
from parley.agents.clients.storable import storable
from parley.agents.definition import PYTHON
from parley.agents.failures import AGENT_FAILED, fail
from parley.agents.interface import Event, Failed, Finished, Started, TextGrew, Turn
from parley.agents.tools.threads import Threads

log = structlog.get_logger(__name__)

Agent = Callable[[Turn], AsyncIterator[Event]]
EVENTS = get_args(Event)
BOUNDS: Mapping[type, Mapping[str, int]] = {
    Failed: {"code": 64, "message": 500},
    Finished: {"finish_reason": 32},
    Started: {"agent": 64, "model": 128},
}
LOAD_S = 10.0  # importing a large library takes seconds; what takes longer waits for something
CLOSE_S = 1.0  # what an agent that is left may take to tidy up


class AgentError(Exception):
    """An agent cannot be used; the message goes on from its kind, is safe to show and repeats nothing of it."""


def load_callable(kind: str) -> Agent:
    """Import `python:package.module:function`; raise AgentError. Blocks: call it off the loop."""
    module, _, name = kind.removeprefix(PYTHON).partition(":")
    if not kind.startswith(PYTHON) or not module or not name:
        raise AgentError("must look like python:package.module:function")
    try:
        target = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # importing runs foreign code, which may fail in any way
        raise AgentError("names nothing that this server can import") from error
    call = None if inspect.isclass(target) else getattr(target, "__call__", None)  # noqa: B004  # asks what kind of function it is, not whether it is one
    if not (inspect.isasyncgenfunction(target) or inspect.isasyncgenfunction(call)):
        raise AgentError("must name an async generator function")
    agent: Agent = target
    return agent


async def find_callable(kind: str) -> Agent:
    """Return what a kind names; raise AgentError, also where importing it does not end."""
    try:
        async with asyncio.timeout(LOAD_S):
            # In a thread of its own: one that never ends must not hold up the end of the worker.
            return await Threads(1).run("load agent", lambda: load_callable(kind))
    except TimeoutError as error:
        raise AgentError("names a module whose import does not end") from error


async def run_callable(agent: Agent, turn: Turn, *, deadline_s: float) -> AsyncGenerator[Event, None]:
    """Yield the agent's events until it ends; whatever it does wrong is a failure with a name."""
    latest = asyncio.get_running_loop().time() + deadline_s
    deadline = asyncio.timeout_at(latest)
    events: Any = None
    failure = AGENT_FAILED
    try:
        events = agent(turn)
        while True:
            async with (deadline := asyncio.timeout_at(latest)):
                event = await anext(events)
            checked = _check(event)
            if checked is not None:
                yield checked
            if isinstance(checked, Finished | Failed):
                return
    except StopAsyncIteration:
        log.error("agent_ended_early")  # noqa: TRY400  # it fell silent, nothing was raised
    except (asyncio.CancelledError, SystemExit):
        # Ours passes through; what the agent has done to itself is its fault, and never ends the worker.
        if _is_cancelled():
            raise
        log.exception("agent_failed")
    except Exception as error:  # foreign code: the reply fails, the worker goes on
        if isinstance(error, TimeoutError) and deadline.expired():
            failure = TOO_LONG
        log.exception("agent_failed")
    finally:
        await _close(events)
    yield fail(failure, is_retryable=failure == TOO_LONG)


async def _close(events: Any) -> None:
    """End the agent, whatever it says to that."""
    if events is None:
        return
    try:
        async with asyncio.timeout(CLOSE_S):
            await events.aclose()
    except (asyncio.CancelledError, SystemExit):
        if _is_cancelled():
            raise
        log.exception("agent_not_closed")
    except Exception:  # foreign code
        log.exception("agent_not_closed")


def _is_cancelled() -> bool:
    """Whether it is this task that is to end, and not foreign code that ends itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _check(event: Any) -> Event | None:
    if not isinstance(event, EVENTS):
        raise TypeError(f"an agent yields events of the interface, not {type(event).__name__}")
    checked = cast("Event", _bounded(_storable(event)))
    return None if isinstance(checked, TextGrew) and not checked.text else checked


def _bounded(event: Any) -> Any:
    """Return an event with its short texts as short as they are stored."""
    bounds = BOUNDS.get(type(event), {})
    return replace(event, **{name: getattr(event, name)[:most] for name, most in bounds.items()}) if bounds else event


def _storable(value: Any) -> Any:
    """Return a value of an event with every text in it storable."""
    if isinstance(value, str):
        return storable(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _storable(getattr(value, field.name)) for field in fields(value)})
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_storable, value))
    return value

"""`parley probe`: a conversation with a service that runs, to see whether it does; once, or for ever as a metric."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from wsgiref.simple_server import WSGIServer

import typer

from parley.cli.errors import FAILED, CommandError
from parley.cli.probe_metrics import ProbeMetrics
from parley.cli.visitor import Account, Verdict, Visit, Visitor
from parley.client.plain import open_http
from parley.core.clock import Clock, SystemClock

PASSWORD = "PARLEY_PASSWORD"  # noqa: S105  # the name of a variable
QUESTION = "How do I return a jacket?"
LAST_PORT = 65_535
LEAST_EVERY_S = 10.0  # six questions a minute: a third of what a user may ask


def probe(  # noqa: PLR0917  # typer calls it by name
    url: Annotated[str, typer.Argument(help="Where the service runs.")] = "http://127.0.0.1:8000",
    email: Annotated[
        str | None, typer.Option(help=f"Sign in with this account; its password is read from {PASSWORD}.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="As a guest: the page to come from.", show_default="the service's own")
    ] = None,
    question: Annotated[str, typer.Option(help="What is asked; the model is paid for one answer.")] = QUESTION,
    within: Annotated[float, typer.Option(min=1, help="Seconds a conversation may take.")] = 30.0,
    every: Annotated[
        float | None, typer.Option(min=LEAST_EVERY_S, help="Go on, with a conversation each so many seconds.")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="With --every: host:port where Prometheus reads.")] = None,
) -> None:
    """Have a conversation as a visitor has it, and say how it went.

    Asks over WebSocket, asks for the same answer over SSE, checks both, and deletes the conversation. Exit code 1 when
    something went wrong.
    """
    if not url.startswith(("http://", "https://")):
        raise CommandError("the URL begins with http:// or https://")
    if listen is not None and every is None:
        raise CommandError("--listen goes with --every: a single conversation tells how it went by its exit code")
    account = Account(email, None if email is None else os.environ.get(PASSWORD), origin)
    if email is not None and not account.password:
        raise CommandError(f"the password of {email} is read from {PASSWORD}, which is empty")
    where = None if listen is None else _address(listen)
    visit = Visit(url, question, within, account)
    is_ok = asyncio.run(_once(visit) if every is None else _for_ever(visit, every, where))
    if not is_ok:
        raise typer.Exit(FAILED)


async def _once(visit: Visit) -> bool:
    async with _visitor(visit, SystemClock()) as visitor:
        verdict = await visitor.converse()
        _say(verdict)
        return verdict.is_ok


async def _for_ever(visit: Visit, every_s: float, where: tuple[str, int] | None) -> bool:
    clock = SystemClock()
    metrics = ProbeMetrics(clock)
    server = None if where is None else metrics.listen(*where)
    try:
        async with _visitor(visit, clock) as visitor:
            await _go_on(visitor, metrics, every_s, clock)
    finally:
        await _close(server)
    return True


@asynccontextmanager
async def _visitor(visit: Visit, clock: Clock) -> AsyncIterator[Visitor]:
    async with open_http(visit.url) as http:
        visitor = Visitor(http, visit, clock)
        try:
            yield visitor
        finally:
            await visitor.leave()


async def _go_on(visitor: Visitor, metrics: ProbeMetrics, every_s: float, clock: Clock) -> None:
    """Converse until SIGTERM or SIGINT, which let what was begun be tidied up."""
    going = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: going is not None and going.cancel())
    try:
        while True:
            began = clock.monotonic()
            verdict = await visitor.converse()
            metrics.count(verdict)
            _say(verdict)
            await clock.sleep(max(0.0, every_s - (clock.monotonic() - began)))
    except asyncio.CancelledError:
        # Whoever sent the signal is answered by the end of the process.
        return


async def _close(server: WSGIServer | None) -> None:
    if server is not None:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


def _say(verdict: Verdict) -> None:
    first = "no token" if verdict.first_token_s is None else f"first token after {verdict.first_token_s:.2f} s"
    line = f"{verdict.outcome}: {first}, {verdict.duration_s:.2f} s in all"
    print(f"{line}; {verdict.detail}" if verdict.detail else line, file=sys.stdout, flush=True)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > LAST_PORT:
        raise CommandError("--listen takes host:port, such as 127.0.0.1:9102")
    return host.strip("[]"), int(port)

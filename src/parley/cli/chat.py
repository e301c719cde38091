"""`parley chat`: a conversation with a service that runs, over its public protocol. Reads none of its settings."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated

import typer

from parley.cli.errors import CommandError
from parley.cli.screen import Screen
from parley.cli.typed_lines import typed_lines
from parley.client import CommandRefused, ConnectionLost, ParleyClient, SignIn
from parley.client.commanding import Taken
from parley.client.plain import open_http
from parley.client.state import Shown, State
from parley.client.watch import SocketWatch

PASSWORD = "PARLEY_PASSWORD"  # noqa: S105  # the name of a variable
PATIENCE_S = 300.0  # a deploy is over by then
HELP = "/stop ends the answer, /regenerate asks for another one, /quit leaves"


def chat(
    url: Annotated[str, typer.Option(help="Where the service runs.")] = "http://127.0.0.1:8000",
    email: Annotated[
        str | None, typer.Option(help=f"Sign in with this account; its password is asked for, or read from {PASSWORD}.")
    ] = None,
    guest: Annotated[str, typer.Option(help="Without an account: the name that others see.")] = "",
    conversation: Annotated[str | None, typer.Option(help="Go on with this conversation.", show_default=False)] = None,
) -> None:
    """Chat with a service that runs, in this terminal."""
    if not url.startswith(("http://", "https://")):
        raise CommandError("the URL begins with http:// or https://")
    password = None if email is None else os.environ.get(PASSWORD) or typer.prompt("Password", hide_input=True)
    asyncio.run(_chat(url, email, password, guest, conversation))


async def _chat(url: str, email: str | None, password: str | None, guest: str, conversation: str | None) -> None:
    async with open_http(url) as http:
        sign_in = SignIn(url, http=http)
        if email is None or password is None:
            await sign_in.as_guest(guest)
        else:
            await sign_in.as_account(email, password)
        async with ParleyClient(url, token=sign_in, http=http) as client:
            if conversation is None:
                conversation = (await client.create_conversation())["id"]
            async with client.watch(conversation, patience_s=PATIENCE_S) as stream:
                await _Talk(stream, Screen()).go_on()


class _Talk:
    def __init__(self, stream: SocketWatch, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen
        self._has_changed = asyncio.Event()

    async def go_on(self) -> None:
        """Show and take lines until one of both ends."""
        self._screen.note(HELP)
        tasks = [asyncio.create_task(self._show()), asyncio.create_task(self._listen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _show(self) -> None:
        async for event in self._stream:
            self._screen.show(event, self._stream.state)
            self._has_changed.set()

    async def _listen(self) -> None:
        await self._until(lambda state: state.user is not None)
        async with aclosing(typed_lines()) as lines:
            async for line in lines:
                if line.strip() == "/quit":
                    return
                # What comes from a pipe was written before there was an answer to interrupt.
                if not sys.stdin.isatty() and line.strip() != "/stop":
                    await self._until(_is_calm)
                await self._obey(line.strip())
        await self._until(_is_calm)

    async def _obey(self, line: str) -> None:
        try:
            match line:
                case "":
                    pass
                case "/stop" | "/regenerate":
                    await self._about_reply(line)
                case _ if line.startswith("/"):
                    self._screen.note(HELP)
                case _:
                    await self._until_held(await self._stream.send(line))
        except (CommandRefused, ConnectionLost) as error:
            self._screen.note(f"{error.message} ({error.code})", "red")

    async def _about_reply(self, line: str) -> None:
        reply = self._newest_reply()
        if reply is None:
            self._screen.note("there is no answer yet")
        elif line == "/regenerate":
            await self._until_held(await self._stream.regenerate(reply.id))
        elif reply.is_live:
            await self._stream.stop(reply.id)

    async def _until_held(self, taken: Taken) -> None:
        # Its row comes by another way than its answer; without it there would seem to be nothing to wait for.
        await self._until(lambda state: state.find(taken.reply_id or taken.message_id) is not None)

    async def _until(self, is_so: Callable[[State], bool]) -> None:
        while not is_so(self._stream.state):
            self._has_changed.clear()
            await self._has_changed.wait()

    def _newest_reply(self) -> Shown | None:
        replies = [message for message in self._stream.state.shown() if message.role == "assistant"]
        return replies[-1] if replies else None


def _is_calm(state: State) -> bool:
    return not any(message.is_live for message in state.shown())

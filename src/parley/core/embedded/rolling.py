"""Replaces children one after the other, new before old. Supervision of all goes on meanwhile: each is its own task."""

import asyncio
from collections.abc import Sequence

from parley.core.embedded.child import Child, Say


class Rolling:
    """Passes over all children when asked. Whoever asks during a pass gets one more, however often.

    A child that has done enough is replaced alone, between two passes.
    """

    def __init__(self, children: Sequence[Child], asked: asyncio.Event, say: Say, within_s: float) -> None:
        self._children = children
        self._asked = asked
        self._say = say
        self._within_s = within_s
        self._turn = asyncio.Lock()
        self._spent: dict[str, int | None] = {}
        self._is_spent = asyncio.Event()

    async def run(self) -> None:
        """Make the passes that are asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            async with self._turn:
                await self._pass()

    def tell_spent(self, name: str) -> None:
        """Replace the run of this child that serves now, when its turn comes."""
        self._spent[name] = next(child.pid for child in self._children if child.program.name == name)
        self._is_spent.set()

    async def run_spent(self) -> None:
        """Replace those that have done enough, until cancelled."""
        while True:
            await self._is_spent.wait()
            self._is_spent.clear()
            for name, pid in list(self._spent.items()):
                async with self._turn:
                    del self._spent[name]
                    child = next(child for child in self._children if child.program.name == name)
                    if child.pid == pid and pid is not None:
                        await self._replace(child)

    async def _pass(self) -> None:
        for child in self._children:
            if not await self._replace(child):
                # What one cannot do the next could not either: some of each would be worse than the old alone.
                return

    async def _replace(self, child: Child) -> bool:
        is_replaced = await child.replace(self._within_s)
        if is_replaced:
            self._say(f"{child.program.name} replaced")
        else:
            self._say(f"{child.program.name} stays: no successor was ready within {self._within_s:g} s")
        return is_replaced

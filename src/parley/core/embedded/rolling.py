"""Replaces children one after the other, new before old. Supervision of all goes on meanwhile: each is its own task."""

import asyncio
from collections.abc import Sequence

from parley.core.embedded.child import Child, Say


class Rolling:
    """Passes over all children when asked. Whoever asks during a pass gets one more, however often."""

    def __init__(self, children: Sequence[Child], asked: asyncio.Event, say: Say, within_s: float) -> None:
        self._children = children
        self._asked = asked
        self._say = say
        self._within_s = within_s

    async def run(self) -> None:
        """Make the passes that are asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._pass()

    async def _pass(self) -> None:
        for child in self._children:
            if not await child.replace(self._within_s):
                # What one cannot do the next could not either: some of each would be worse than the old alone.
                self._say(f"{child.program.name} stays: no successor was ready within {self._within_s:g} s")
                return
            self._say(f"{child.program.name} replaced")

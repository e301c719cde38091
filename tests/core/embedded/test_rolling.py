"""Passes over children: one after the other, and no further than the first that cannot be replaced."""

import asyncio
from types import SimpleNamespace
from typing import Any

from parley.core.embedded.rolling import Rolling


class Slot:
    """A child that takes a moment to be replaced, or as long as it is held."""

    def __init__(self, name: str, seen: list[str], *, can: bool = True, is_held: bool = False) -> None:
        self.program = SimpleNamespace(name=name)
        self.pid = 1
        self.may_go_on = asyncio.Event()
        self._seen = seen
        self._can = can
        if not is_held:
            self.may_go_on.set()

    async def replace(self, within_s: float) -> bool:
        self._seen.append(f"{self.program.name} begins")
        await asyncio.sleep(0.05)
        await self.may_go_on.wait()
        self.pid += 1
        self._seen.append(f"{self.program.name} ends")
        return self._can


async def passes(children: list[Any], times: int = 1) -> list[str]:
    """Return what was said when it was asked so often before those that are held might go on."""
    said: list[str] = []
    asked = asyncio.Event()
    running = asyncio.create_task(Rolling(children, asked, said.append, 30).run())
    for _ in range(times):
        asked.set()
        await asyncio.sleep(0.01)
    for child in children:
        child.may_go_on.set()
    await asyncio.sleep(0.5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return said


async def test_one_after_the_other() -> None:
    seen: list[str] = []
    said = await passes([Slot("a", seen), Slot("b", seen)])
    assert seen == ["a begins", "a ends", "b begins", "b ends"]
    assert said == ["a replaced", "b replaced"]


async def test_whoever_asks_during_a_pass_gets_one_more() -> None:
    seen: list[str] = []
    assert await passes([Slot("a", seen, is_held=True)], 4) == ["a replaced"] * 2


async def test_the_first_that_cannot_be_replaced_ends_the_pass() -> None:
    seen: list[str] = []
    said = await passes([Slot("a", seen, can=False), Slot("b", seen)])
    assert seen == ["a begins", "a ends"]
    assert said == ["a stays: no successor was ready within 30 s"]


async def test_one_that_has_done_enough_is_replaced_alone_and_once() -> None:
    """However often it says so, and not again for what a pass has done already."""
    seen: list[str] = []
    children: list[Any] = [Slot("a", seen), Slot("b", seen)]
    asked = asyncio.Event()
    rolling = Rolling(children, asked, lambda _: None, 30)
    running = [asyncio.create_task(rolling.run()), asyncio.create_task(rolling.run_spent())]
    for _ in range(3):
        rolling.tell_spent("b")
    await asyncio.sleep(0.15)
    assert seen == ["b begins", "b ends"]
    asked.set()
    await asyncio.sleep(0.01)
    rolling.tell_spent("b")
    await asyncio.sleep(0.3)
    assert seen[2:] == ["a begins", "a ends", "b begins", "b ends"]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

"""Watches source files for `--reload`. Compares times of change: some hundred files need no library for that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

POLL_S = 0.5


async def source_changes(folder: Path) -> AsyncIterator[Path]:
    """Yield a changed file each time the sources are not what they were."""
    seen = await asyncio.to_thread(_times, folder)
    while True:
        await asyncio.sleep(POLL_S)
        now = await asyncio.to_thread(_times, folder)
        changed = sorted(path for path in seen.keys() | now.keys() if seen.get(path) != now.get(path))
        seen = now
        if changed:
            yield changed[0]


def _times(folder: Path) -> dict[Path, int]:
    found: dict[Path, int] = {}
    for path in folder.rglob("*.py"):
        with suppress(OSError):  # gone between listing and looking
            found[path] = path.stat().st_mtime_ns
    return found

"""Lines from standard input as they are typed, without holding the loop."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator


async def typed_lines() -> AsyncGenerator[str]:
    """Yield lines until the input ends. The thread that reads ends with the process: a read cannot be called back."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def give(line: str | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lines.put_nowait, line)

    def read() -> None:
        for line in sys.stdin:
            give(line)
        give(None)

    threading.Thread(target=read, name="typed-lines", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line.rstrip("\r\n")

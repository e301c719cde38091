"""A model in memory: the port's twin, that says and breaks what a test has written down."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from parley.agents.clients.port import Finish, ModelError, ModelEvent, ModelRequest, TextDelta, Usage

HANG = "hang"
Line = Sequence[ModelEvent] | ModelError | float | str
"""A batch; an error to raise; seconds to wait; HANG for ever."""


def answer(*words: str, prompt_tokens: int = 10) -> list[Line]:
    """Return a whole answer, one batch a word."""
    usage = Usage(prompt_tokens, len(words))
    return [*([TextDelta(word)] for word in words), [Finish("stop", usage)]]


class ModelDouble:
    """Plays one script a call, the last one again and again."""

    def __init__(self, *scripts: Sequence[Line]) -> None:
        self._scripts = list(scripts)
        self.requests: list[ModelRequest] = []
        self.open = 0
        self.most_open = 0

    def then(self, *scripts: Sequence[Line]) -> None:
        """Play other scripts from now on."""
        self._scripts = list(scripts)

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[Sequence[ModelEvent]]]:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.requests.append(request)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        batches = self._play(script)
        try:
            yield batches
        finally:
            self.open -= 1
            await batches.aclose()  # type: ignore[attr-defined]  # it is a generator

    async def _play(self, script: Sequence[Line]) -> AsyncIterator[Sequence[ModelEvent]]:
        for line in script:
            await asyncio.sleep(0)
            if isinstance(line, ModelError):
                raise ModelError(
                    line.code, is_retryable=line.is_retryable, retry_after_s=line.retry_after_s, status=line.status
                )
            if isinstance(line, float):
                await asyncio.sleep(line)
            elif line == HANG:
                await asyncio.Event().wait()
            else:
                assert not isinstance(line, str)
                yield line

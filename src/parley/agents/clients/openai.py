"""The one AsyncOpenAI client of a worker, and calls of a model on it, for any OpenAI-compatible provider.

The SDK makes the call; its raw bytes are read here, because its typed chunks cost many times as much. Own deadlines:
the SDK's are per read of the socket, and a comment now and then keeps a dead stream alive.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import httpx2
import orjson
from openai import APIConnectionError, APIStatusError, AsyncAPIResponse, AsyncOpenAI, DefaultAioHttpClient, OpenAIError
from openai import Timeout as ProviderTimeout

from parley.agents.clients import port
from parley.agents.clients.answer import Answer
from parley.agents.clients.bounds import bound_body, is_event_stream
from parley.agents.clients.deadlines import Deadlines
from parley.agents.clients.port import ModelError, ModelEvent, ModelRequest
from parley.agents.clients.refusals import loggable, parse_retry_after, refusal
from parley.agents.clients.storable import storable
from parley.agents.settings import AgentsSettings
from parley.core.clock import Clock

# Ollama, vLLM and others ask for no key; the client insists on some text.
NO_KEY = "none"
# What reading a provider's socket may raise: the SDK's errors, its HTTP library's, and what escapes both.
TRANSPORT_FAULTS = (OpenAIError, httpx2.HTTPError, aiohttp.ClientError, anyio.EndOfStream, OSError)
CLOSE_S = 1.0  # the socket is closed at once; this is for what libraries tidy up behind it
# An answer that is complete leaves its connection to the next one, if the end of the body is there already.
REUSE_S = 0.02
# Newer models of these hosts refuse `max_tokens`; many other servers know nothing else.
NEW_LIMIT_HOSTS = ("openai.com", "azure.com")
# Asks the SDK for the response itself, unread: what its `with_streaming_response` sends.
AS_IT_COMES = {"X-Stainless-Raw-Response": "stream"}


def open_openai(settings: AgentsSettings) -> AsyncOpenAI:
    """Return the client; it connects when first used. It never retries by itself: retries are the caller's policy.

    It follows no redirects, which would carry questions, and perhaps the key, to another host.
    """
    return AsyncOpenAI(
        api_key=settings.api_key.get_secret_value() if settings.api_key else NO_KEY,
        base_url=settings.base_url,
        max_retries=0,
        timeout=ProviderTimeout(settings.check_timeout_s, connect=settings.connect_timeout_s),
        default_headers={"Accept-Encoding": "identity"},
        http_client=DefaultAioHttpClient(follow_redirects=False, event_hooks={"response": [bound_body]}),
    )


async def ping(client: AsyncOpenAI, model: str) -> bool:
    """Ask the provider for its models; return whether `model` is among them."""
    page = await client.models.list()
    return any(known.id == model for known in page.data)


class OpenAIClient:
    """Calls on a client from `open_openai`, which stays its owner's; port.ModelClient says what is guaranteed."""

    def __init__(self, client: AsyncOpenAI, settings: AgentsSettings, clock: Clock) -> None:
        self._client = client
        self._settings = settings
        self._clock = clock
        self._key = client.api_key if client.api_key != NO_KEY else ""
        has_new_name = client.base_url.host.endswith(NEW_LIMIT_HOSTS)
        self._limit_name = "max_completion_tokens" if has_new_name else "max_tokens"
        # `pool` is the deadline for everything up to a connection, its name looked up included.
        self._timeout = ProviderTimeout(None, connect=settings.connect_timeout_s, pool=settings.connect_timeout_s)

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[Sequence[ModelEvent]]]:
        """Call the model; see port.ModelClient.stream. A refusal is raised on entering."""
        settings = self._settings
        deadlines = Deadlines(
            first_token_s=settings.first_token_s,
            silence_s=settings.silence_s,
            total_s=settings.total_s,
            now=self._clock.monotonic(),
        )
        answer = Answer(
            max_bytes=settings.max_bytes, max_line_bytes=settings.max_line_bytes, max_pieces=settings.max_pieces
        )
        response = await self._open(request, deadlines)
        try:
            chunks = self._chunks_of(response)
            batches = self._read(chunks, answer, deadlines, request)
            try:
                yield batches
            finally:
                await batches.aclose()
                if answer.is_done:
                    await _read_end(chunks)
                await chunks.aclose()
        finally:
            await _close(response)

    async def _open(self, request: ModelRequest, deadlines: Deadlines) -> AsyncAPIResponse[Any]:
        try:
            async with asyncio.timeout(deadlines.left_s(self._clock.monotonic())) as timer:
                return await self._post(request)
        except TimeoutError as error:
            raise deadlines.failure() if timer.expired() else _transport_failure(error) from error
        except APIStatusError as error:
            raise self._refusal(error, request) from error
        except TRANSPORT_FAULTS as error:
            raise _transport_failure(error) from error

    async def _post(self, request: ModelRequest) -> AsyncAPIResponse[Any]:
        """Send it as `chat.completions` would, without its pass over every message: they are plain JSON already."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": list(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = list(request.tools)
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body[self._limit_name] = request.max_tokens
        post: Any = self._client.post  # what it returns for such a header its types do not say
        response: AsyncAPIResponse[Any] = await post(
            "/chat/completions",
            cast_to=object,
            content=orjson.dumps(body),
            options={"headers": {**AS_IT_COMES, **request.headers}, "timeout": self._timeout},
        )
        return response

    def _chunks_of(self, response: AsyncAPIResponse[Any]) -> Any:
        """Return the bytes as they come from the socket, or raise where this is no stream at all."""
        http_response: Any = response.http_response
        if not is_event_stream(http_response):
            kind = storable(http_response.headers.get("content-type", "nothing"))
            raise ModelError(port.GARBLED, is_retryable=True, status=response.status_code, detail=f"answered {kind}")
        return http_response.aiter_raw()

    async def _read(self, chunks: Any, answer: Answer, deadlines: Deadlines, request: ModelRequest) -> Any:
        clock = self._clock
        while not answer.is_done:
            data: bytes | None = None
            left_s = deadlines.left_s(clock.monotonic())
            try:
                async with asyncio.timeout(max(left_s, 0.0)) as timer:
                    # A provider that floods us never lets the timer have its turn.
                    if left_s <= 0:
                        await asyncio.sleep(0)
                    data = await anext(chunks, None)
            except (TimeoutError, *TRANSPORT_FAULTS) as error:
                if not answer.is_finished:
                    raise deadlines.failure() if timer.expired() else _cut(error) from error
            events = answer.end() if data is None else answer.feed(data)
            now = clock.monotonic()
            if answer.is_alive:
                deadlines.hear(now)
            if answer.is_finished:
                deadlines.finish(now)
            if events:
                yield events
                deadlines.come_back(clock.monotonic())
            if answer.failure is not None:
                answer.failure.detail = loggable(answer.failure.detail, self._key, request)
                raise answer.failure

    def _refusal(self, error: APIStatusError, request: ModelRequest) -> ModelError:
        wait_s = parse_retry_after(error.response.headers, self._clock.now())
        failure = refusal(error.status_code, detail=error.response.text, retry_after_s=wait_s)
        failure.detail = loggable(failure.detail, self._key, request)
        return failure


def _transport_failure(error: Exception) -> ModelError:
    """Before there was an answer. The aiohttp transport says 'connect timeout' to all that goes wrong: look behind."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    detail = " < ".join(type(cause).__name__ for cause in causes)
    root = causes[-1]
    if any(isinstance(cause, aiohttp.ClientResponseError) for cause in causes):
        return ModelError(port.GARBLED, is_retryable=True, detail=detail)  # the head of its answer is no HTTP
    if isinstance(root, TimeoutError) or any(isinstance(c, aiohttp.ServerTimeoutError) for c in causes):
        return ModelError(port.CONNECT_TIMEOUT, is_retryable=True, detail=detail)
    is_connection = isinstance(error, APIConnectionError | OSError | aiohttp.ClientError | httpx2.TransportError)
    return ModelError(port.UNREACHABLE if is_connection else port.BROKEN, is_retryable=True, detail=detail)


def _cut(error: Exception) -> ModelError:
    return ModelError(port.TRUNCATED, is_retryable=True, detail=type(error).__name__)


async def _read_end(chunks: Any) -> None:
    with contextlib.suppress(TimeoutError, *TRANSPORT_FAULTS):
        async with asyncio.timeout(REUSE_S):
            await anext(chunks, None)


async def _close(response: AsyncAPIResponse[Any]) -> None:
    with contextlib.suppress(TimeoutError, *TRANSPORT_FAULTS):
        async with asyncio.timeout(CLOSE_S):
            await response.close()

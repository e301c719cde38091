"""The one AsyncOpenAI client of a worker: opened and closed by the container, for any OpenAI-compatible provider."""

from openai import AsyncOpenAI, DefaultAioHttpClient
from openai import Timeout as ProviderTimeout

from parley.agents.settings import AgentsSettings

# Ollama, vLLM and others ask for no key; the client insists on some text.
NO_KEY = "none"


def open_openai(settings: AgentsSettings) -> AsyncOpenAI:
    """Return the client; it connects when first used. It never retries by itself: retries are the caller's policy."""
    return AsyncOpenAI(
        api_key=settings.api_key.get_secret_value() if settings.api_key else NO_KEY,
        base_url=settings.base_url,
        max_retries=0,
        timeout=ProviderTimeout(settings.check_timeout_s, connect=settings.connect_timeout_s),
        http_client=DefaultAioHttpClient(),
    )


async def ping(client: AsyncOpenAI, model: str) -> bool:
    """Ask the provider for its models; return whether `model` is among them."""
    page = await client.models.list()
    return any(known.id == model for known in page.data)

"""The models of a worker: which provider a model's name leads to, with everything around a call. Chooses nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from parley.agents.cache import ResponseCache
from parley.agents.clients.fallback import AnswerItem, ModelRoute, Report
from parley.agents.clients.port import ModelClient, ModelRequest
from parley.agents.metering import Metered

MAIN = "main"


class Lineup:
    """Asks models by name: `provider/model` where a provider of that name is set up, else the main one."""

    def __init__(self, metered: Metered, cache: ResponseCache, clients: Mapping[str, ModelClient]) -> None:
        self._metered = metered
        self._cache = cache
        self._clients = clients

    def stream(
        self,
        models: Sequence[str],
        request: ModelRequest,
        report: Report,
        *,
        user_id: UUID,
        cache_scope: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[AnswerItem]]:
        """Ask the models in order, see runner.Models; an answer from the cache costs no budget."""
        routes = [self.route(model) for model in models]

        def ask() -> AbstractAsyncContextManager[AsyncIterator[AnswerItem]]:
            return self._metered.stream(routes, request, report, user_id)

        return ask() if cache_scope is None else self._cache.stream(cache_scope, routes[0], request, report, ask)

    def route(self, model: str) -> ModelRoute:
        """Return where a model of this name is asked."""
        provider, _, name = model.partition("/")
        # Models of the main provider may have a slash in their name as well.
        if name and provider in self._clients and provider != MAIN:
            return ModelRoute(provider, name, self._clients[provider])
        return ModelRoute(MAIN, model, self._clients[MAIN])

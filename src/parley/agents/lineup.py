"""The models of a worker: which provider a model's name leads to, with everything around a call. Chooses nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from parley.agents.clients.fallback import AnswerItem, Fallback, ModelRoute, Report
from parley.agents.clients.port import ModelClient, ModelRequest

MAIN = "main"


class Lineup:
    """Asks models by name: `provider/model` where a provider of that name is set up, else the main one."""

    def __init__(self, fallback: Fallback, clients: Mapping[str, ModelClient]) -> None:
        self._fallback = fallback
        self._clients = clients

    def stream(
        self,
        models: Sequence[str],
        request: ModelRequest,
        report: Report,
        *,
        user_id: UUID,  # noqa: ARG002  # budgets are not asked here yet
    ) -> AbstractAsyncContextManager[AsyncIterator[AnswerItem]]:
        """Ask the models in order; see clients.fallback."""
        return self._fallback.stream([self.route(model) for model in models], request, report)

    def route(self, model: str) -> ModelRoute:
        """Return where a model of this name is asked."""
        provider, _, name = model.partition("/")
        # Models of the main provider may have a slash in their name as well.
        if name and provider in self._clients and provider != MAIN:
            return ModelRoute(provider, name, self._clients[provider])
        return ModelRoute(MAIN, model, self._clients[MAIN])

"""The running summaries of long conversations: found for a reply, made by the cheap model after one.

Nobody waits for them: a reply goes on without one that is late, and one that fails is tried again after a later reply.
"""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog

from parley.agents import repository
from parley.agents.booking import Price, book, no_price
from parley.agents.clients.attempts import AttemptReport
from parley.agents.clients.fallback import Answering, Restarting
from parley.agents.clients.port import TOO_LONG, TOO_MUCH, Finish, ModelError, ModelRequest, TextDelta
from parley.agents.context import SUMMARY_CUT, Message
from parley.agents.counting import cut_text
from parley.agents.definition import AgentDefinition
from parley.agents.folding import SUMMARY_TOKENS, Summary, build_fold
from parley.agents.interface import Turn
from parley.agents.loop import EMPTY
from parley.agents.runner import Models, Record, no_record
from parley.agents.settings import AgentsSettings
from parley.core.database import Database
from parley.core.errors import DatabaseUnavailable
from parley.core.tasks import Tasks

log = structlog.get_logger(__name__)

MOST_CHARACTERS = 20_000  # whoever says more writes no summary


class Summaries:
    """At most one is made for a conversation at a time, and so many of them in this worker."""

    def __init__(
        self,
        *,
        database: Database,
        models: Models,
        tasks: Tasks,
        settings: AgentsSettings,
        instructions: str,
        price: Price = no_price,
        record: Record = no_record,
    ) -> None:
        self._database, self._models, self._tasks, self._settings = database, models, tasks, settings
        self._instructions, self._price, self._record = instructions, price, record
        self._folding: set[UUID] = set()

    async def find(self, conversation_id: UUID) -> Summary | None:
        """Return the stored summary; None also where the database does not tell it in time."""
        # A task of its own: a query that is late ends by itself, and its connection stays good.
        looking = self._tasks.spawn("find summary", self._find(conversation_id))
        await asyncio.wait({looking}, timeout=self._settings.summary_find_s)
        if not looking.done():
            log.warning("summary_late", conversation_id=str(conversation_id))
            return None
        return None if looking.cancelled() or looking.exception() else looking.result()

    def fold(self, agent: AgentDefinition, turn: Turn, left_out: int) -> None:
        """Begin to take what a prompt left out into the summary; not while that or too much of it is under way."""
        conversation_id = turn.conversation_id
        if conversation_id in self._folding or len(self._folding) >= self._settings.summaries:
            return
        self._folding.add(conversation_id)
        folding = self._tasks.spawn("fold summary", self._fold(agent, turn, left_out))
        folding.add_done_callback(lambda _: self._folding.discard(conversation_id))

    async def _find(self, conversation_id: UUID) -> Summary | None:
        try:
            return await self._look(conversation_id)
        except DatabaseUnavailable:
            log.warning("summary_not_found", conversation_id=str(conversation_id))
            return None

    async def _look(self, conversation_id: UUID) -> Summary | None:
        async with self._database.transaction() as db:
            found = await repository.find_summary(db, conversation_id)
        return None if found is None else Summary(*found)

    async def _fold(self, agent: AgentDefinition, turn: Turn, left_out: int) -> None:
        conversation_id = turn.conversation_id
        try:
            # Again: the reply may have been told too late, and others may have made one since.
            known = await self._look(conversation_id)
            budget = agent.limits.context_tokens
            fold = build_fold(turn.history, left_out, known, instructions=self._instructions, budget=budget)
            if fold is None:
                return
            async with asyncio.timeout(self._settings.summary_s):
                content = await self._ask(agent, turn, fold.messages)
            async with self._database.transaction() as db:
                is_stored = await repository.store_summary(db, conversation_id, fold.through_seq, content, turn.rev)
        except (ModelError, DatabaseUnavailable) as error:
            log.warning("summary_failed", conversation_id=str(conversation_id), code=error.code)
        except TimeoutError:
            log.warning("summary_failed", conversation_id=str(conversation_id), code=TOO_LONG)
        else:
            log.info(
                "summary_made", conversation_id=str(conversation_id), through_seq=fold.through_seq, is_stored=is_stored
            )

    async def _ask(self, agent: AgentDefinition, turn: Turn, messages: Sequence[Message]) -> str:
        models = [agent.models.cheap or self._settings.name, *agent.models.fallbacks]
        # As many tokens as a reply: models that think need them, and what is kept is cut.
        request = ModelRequest(model=models[0], messages=messages, max_tokens=agent.limits.max_tokens)

        def report(attempt: AttemptReport) -> None:
            self._record(turn, book(attempt, request, self._price))

        text = ""
        async with self._models.stream(models, request, report, user_id=turn.user.id) as items:
            async for item in items:
                if isinstance(item, Answering | Restarting):
                    text = ""
                    continue
                text += "".join(event.text for event in item if isinstance(event, TextDelta))
                if any(isinstance(event, Finish) and event.reason == "content_filter" for event in item):
                    text = ""
                if len(text) > MOST_CHARACTERS:
                    raise ModelError(TOO_MUCH)
        if not (content := text.strip()):
            raise ModelError(EMPTY)
        return cut_text(content, SUMMARY_TOKENS, SUMMARY_CUT)

"""The tool that looks things up in the help articles. Ranks nothing itself: that is the knowledge base's."""

from typing import Annotated

from pydantic import Field

from parley.agents.tools.outcome import ToolContext, ToolMistake, ToolOutcome
from parley.agents.tools.registry import tool


@tool(label="Searching the help articles", is_idempotent=True, is_public=True, deadline_s=5.0)
async def search_knowledge(  # noqa: D417  # the context is not the model's to know
    context: ToolContext,
    query: Annotated[str, Field(min_length=1, max_length=500)],
    limit: Annotated[int, Field(ge=1, le=10)] = 4,
) -> ToolOutcome:
    """Search the help articles. Use it before answering any question about products, orders or policies.

    Answer only from what it returns and cite it by its number in brackets, as in [1].

    Args:
        query: The key terms of the question, without filler words.
        limit: How many articles to return at most.
    """
    if not query.strip():
        raise ToolMistake("query: must hold at least one word")
    found = await context.dependencies.knowledge.search(query, limit)
    count = len(found)
    summary = f"Found {count} article{'' if count == 1 else 's'}" if count else "Found nothing"
    return ToolOutcome(summary=summary, sources=found)

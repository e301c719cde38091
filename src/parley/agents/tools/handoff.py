"""The tool that calls a person in. Changes nothing itself: the runner ends the reply, chat changes the mode."""

from typing import Annotated

from pydantic import Field

from parley.agents.tools.outcome import ToolOutcome
from parley.agents.tools.registry import tool


# Neither idempotent, for a second colleague would be called, nor public: a reason is written about the reader.
@tool(label="Calling a colleague", is_idempotent=False, is_public=False, deadline_s=5.0)
async def handoff_to_human(
    reason: Annotated[str, Field(max_length=500)],  # noqa: ARG001  # stands in the stored call, for the colleague
) -> ToolOutcome:
    """Hand the conversation to a human colleague.

    Use it when the user asks for a person, is upset, or cannot be helped.

    Args:
        reason: One sentence for the colleague: what the user wants and why a person is needed.
    """
    return ToolOutcome("A human colleague has been asked to take over this conversation.", "", is_handoff=True)

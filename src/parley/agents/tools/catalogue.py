"""The tools that come with Parley."""

from collections.abc import Sequence

from parley.agents.tools.current_time import current_time
from parley.agents.tools.handoff import handoff_to_human
from parley.agents.tools.registry import Tool
from parley.agents.tools.search_knowledge import search_knowledge


def shipped_tools() -> Sequence[Tool]:
    """Return them."""
    return (search_knowledge, current_time, handoff_to_human)

"""What operators are told of the calls of models."""

from uuid import UUID

from parley.agents.models import ModelCall
from parley.core.schemas import Moment, Schema


class CallView(Schema):
    """One call of a model."""

    id: UUID
    created_at: Moment
    conversation_id: UUID
    message_id: UUID
    user_id: UUID
    agent: str
    model: str
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    is_estimated: bool
    is_cached: bool
    first_token_s: float | None
    total_s: float
    cost_usd: float | None


def to_view(call: ModelCall) -> CallView:
    """Return a row as it is shown."""
    cost_usd = None if call.cost_usd is None else float(call.cost_usd)
    fields = {name: getattr(call, name) for name in CallView.model_fields if name != "cost_usd"}
    return CallView(**fields, cost_usd=cost_usd)

"""The whole metadata, for Alembic and tests: importing this module imports every package's tables."""

from parley.agents import models as agent_models
from parley.auth import models as auth_models
from parley.chat import models as chat_models
from parley.core import audit
from parley.core.models import Base

metadata = Base.metadata

__all__ = ["agent_models", "audit", "auth_models", "chat_models", "metadata"]

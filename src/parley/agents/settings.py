"""The settings of the model behind the answers."""

from pydantic import AliasChoices, Field, PositiveFloat, SecretStr
from pydantic_settings import SettingsConfigDict

from parley.core.settings import Slice


class AgentsSettings(Slice):
    """Which model answers, and where it lives."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_MODEL_")

    api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("PARLEY_MODEL_API_KEY", "OPENAI_API_KEY"),
        description="Key of the model's provider. Empty, and no base URL: the demo model.",
    )
    base_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("PARLEY_MODEL_BASE_URL", "OPENAI_BASE_URL"),
        description="Base URL of any OpenAI-compatible provider. Empty: OpenAI.",
    )
    name: str = Field("gpt-5-mini", min_length=1, description="Model that answers.")
    connect_timeout_s: PositiveFloat = Field(2.0, description="Seconds to wait for a connection to the provider.")
    check_timeout_s: PositiveFloat = Field(3.0, description="Seconds a health check waits for the provider.")

    @property
    def is_demo(self) -> bool:
        """Whether no real provider is named."""
        return self.api_key is None and self.base_url is None

"""The settings of the model behind the answers."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import SettingsConfigDict

from parley.core.settings import Slice


class Provider(BaseModel):
    """One more place where models are asked."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str = Field(min_length=1)
    api_key: SecretStr | None = None


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
    providers: dict[str, Provider] = Field(
        {},
        description='More providers for agents, as JSON: {"backup": {"base_url": "https://...", "api_key": "..."}}; '
        "their models are written `backup/model`.",
    )
    name: str = Field("gpt-5-mini", min_length=1, description="Model that answers.")
    connect_timeout_s: PositiveFloat = Field(2.0, description="Seconds to wait for a connection to the provider.")
    check_timeout_s: PositiveFloat = Field(3.0, description="Seconds a health check waits for the provider.")
    first_token_s: PositiveFloat = Field(
        30.0, description="Seconds from the call to the first token; a model that thinks in silence may need more."
    )
    silence_s: PositiveFloat = Field(
        20.0, description="Seconds between two tokens; keep-alive comments and empty pieces do not count."
    )
    total_s: PositiveFloat = Field(300.0, description="Seconds a whole answer of the model may take.")
    # A piece of one token is about 300 bytes on the wire: room for 100,000 of them, and for long tool arguments.
    max_bytes: PositiveInt = Field(32 * 1024 * 1024, description="Bytes one answer may have on the wire.")
    max_line_bytes: PositiveInt = Field(256 * 1024, description="Bytes one line of an answer may have on the wire.")
    max_pieces: PositiveInt = Field(
        65_536, description="Pieces one answer may come in; most providers send one token a piece."
    )

    # Resilience: what happens when a model fails, and how much of it there may be at a time.
    retries: NonNegativeInt = Field(1, description="Times a failed call is repeated on the same model.")
    retry_pause_max_s: PositiveFloat = Field(
        5.0,
        description="Longest pause before a repeat; when Retry-After asks for more, the next model is called at once.",
    )
    fallback_deadline_s: PositiveFloat = Field(
        60.0, description="Seconds until some model must have begun to answer, all repeats and fallbacks together."
    )
    after_first_token: Literal["restart", "fail"] = Field(
        "restart",
        description="A model fails in the middle: `restart` visibly on the next one, or `fail` with the text.",
    )
    breaker_window_s: PositiveFloat = Field(30.0, description="Seconds over which the failure rate of a model counts.")
    breaker_min_calls: PositiveInt = Field(5, description="Calls within the window below which no rate is known.")
    breaker_failure_rate: float = Field(0.5, gt=0, le=1, description="Failure rate from which a model is left alone.")
    breaker_open_s: PositiveFloat = Field(15.0, description="Seconds until one call may try a model again.")
    concurrency: PositiveInt = Field(64, description="Calls at a time to one provider, all workers together.")
    queue_size: PositiveInt = Field(256, description="Calls of a worker that may wait for their turn.")
    queue_s: PositiveFloat = Field(5.0, description="Seconds a call may wait for its turn.")
    lease_s: PositiveFloat = Field(15.0, description="Seconds after which what a dead worker held is free again.")
    alone_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Part of concurrency and budgets each worker allows itself while Redis is away; 1 / workers.",
    )
    shared_deadline_s: PositiveFloat = Field(
        0.25, description="Seconds to wait for Redis to decide, then this worker's own memory decides."
    )
    # Budgets: a reply is cut where its user has used them up.
    budget_tokens_per_minute: PositiveInt | None = Field(
        200_000, description="Tokens of a user per minute (UTC), prompts included. Empty: any number."
    )
    budget_tokens_per_day: PositiveInt | None = Field(
        2_000_000, description="Tokens of a user per day (UTC), prompts included. Empty: any number."
    )
    budget_usd_per_minute: PositiveFloat | None = Field(
        1.0,
        description="Dollars of a user per minute (UTC). Empty: any sum. Models of unknown price count tokens only.",
    )
    budget_usd_per_day: PositiveFloat | None = Field(
        10.0, description="Dollars of a user per day (UTC). Empty: any sum."
    )
    # Summaries of what conversations have grown too long to show whole.
    summary_find_s: PositiveFloat = Field(
        0.25, description="Seconds a reply waits for the stored summary of its conversation, then goes on without."
    )
    summary_s: PositiveFloat = Field(60.0, description="Seconds the model may take to write a summary.")
    summaries: PositiveInt = Field(4, description="Summaries a worker makes at a time.")
    prices_file: Path | None = Field(
        default=None, description="TOML file of prices that beat the built-in ones: [model] with input, output, cached."
    )
    cache_ttl_s: PositiveInt = Field(3600, description="Seconds an answer is kept for agents that cache.")
    cache_max_bytes: PositiveInt = Field(32 * 1024 * 1024, description="Bytes all cached answers may have together.")
    cache_max_answer_bytes: PositiveInt = Field(64 * 1024, description="Bytes of the longest answer that is cached.")

    @property
    def is_demo(self) -> bool:
        """Whether no real provider is named."""
        return self.api_key is None and self.base_url is None

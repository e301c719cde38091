"""The settings of the house itself: server, HTTP edge, database, Redis, limits, logs.

Every slice is data: frozen, read once by `parley.settings.load`, handed down. Nothing here opens or connects.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from limits import parse as parse_limit
from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

Network = IPv4Network | IPv6Network


class Slice(BaseSettings):
    """A package's part of the settings: frozen, strict about its own names, fed only by the loader."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic-settings passes it by position
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing behind the loader's back: it alone knows where each value came from."""
        return (init_settings,)


def split_commas(value: Any) -> Any:
    """People write lists in environment variables with commas."""
    return [part for part in (piece.strip() for piece in value.split(",")) if part] if isinstance(value, str) else value


def _network(value: Any) -> Any:
    return ip_network(value, strict=False) if isinstance(value, str) else value


def as_origin(value: str) -> str:
    """Return a web origin in the form browsers send it, or raise ValueError."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"} or parts.query:
        msg = "an origin looks like https://shop.example or http://localhost:3000"
        raise ValueError(msg)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port and parts.port != default else "")


def _url_of(*schemes: str, example: str) -> AfterValidator:
    """Accept only what can be a URL of one of these schemes, without ever repeating it: it holds a password."""

    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            is_url = parts.scheme in schemes and (parts.port is None or parts.port > 0)
        except ValueError:
            is_url = False
        if not is_url:
            raise ValueError(f"must look like {example} (special characters in a password as %40, %2F, ...)")
        return value

    return AfterValidator(check)


def _limit(value: str) -> str:
    parse_limit(value)
    return value


Commas = BeforeValidator(split_commas)
Origins = Annotated[tuple[Annotated[str, AfterValidator(as_origin)], ...], NoDecode, Commas]
Networks = Annotated[tuple[Annotated[Network, BeforeValidator(_network)], ...], NoDecode, Commas]
PostgresUrl = Annotated[
    SecretStr,
    _url_of("postgresql", "postgres", "postgresql+asyncpg", example="postgresql://user:password@host:5432/name"),
]
RedisUrl = Annotated[SecretStr, _url_of("redis", "rediss", "unix", example="redis://user:password@host:6379/0")]
CollectorUrl = Annotated[SecretStr, _url_of("http", "https", example="http://collector:4318")]
LimitText = Annotated[str, AfterValidator(_limit)]


class ServerSettings(Slice):
    """How the service runs and what its edge lets in."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_")

    environment: Literal["development", "production"] = Field(
        "development", description="`production` refuses to start with anything unsafe."
    )
    debug: bool = Field(
        default=False, description="Log at debug level and let asyncio watch the event loop; never in production."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int | None = Field(
        default=None, ge=1, le=64, description="Worker processes. Empty: 2 with embedded engines, else 1."
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder of the embedded engines and the generated secret. Empty: `.parley/` beside pyproject.toml, "
        "else the user's state folder.",
    )
    docs: bool | None = Field(
        default=None, description="Serve /docs, /redoc and /openapi.json. Empty: yes, but not in production."
    )
    demo_page: bool | None = Field(
        default=None, description="Serve the demo shop at `/`. Empty: yes, but not in production."
    )
    demo: bool = Field(default=False, description="Allow the built-in demo model in production.")
    graceful_s: PositiveFloat = Field(
        20.0, description="Seconds a worker may take to finish what it does when stopped."
    )
    replace_timeout_s: PositiveFloat = Field(
        30.0, description="Seconds a new worker may take to get ready on SIGHUP; else the old one stays."
    )
    max_requests: PositiveInt | None = Field(
        default=None,
        description="Requests and sockets after which a worker is replaced, up to a fifth more. Empty: never.",
    )
    max_rss_mb: int | None = Field(
        default=None,
        ge=200,
        description="Megabytes of resident memory above which a worker is replaced; it needs some 150. Empty: never.",
    )
    head_timeout_s: PositiveFloat = Field(10.0, description="Seconds the head of a request may take to arrive.")
    keep_alive_s: PositiveInt = Field(65, le=75, description="Seconds an idle HTTP connection is kept.")
    tcp_user_timeout_ms: PositiveInt = Field(
        14_000, description="Milliseconds until a peer that acknowledges nothing is dropped (Linux)."
    )
    send_buffer_bytes: PositiveInt = Field(131_072, description="Kernel send buffer of a connection, in bytes.")
    trusted_proxies: Networks = Field(
        (), description="Networks whose X-Forwarded-For and -Proto are believed, comma-separated."
    )
    allowed_origins: Origins = Field(
        (), description="Web origins that may call from a browser, comma-separated; `*` is refused."
    )
    public_origin: Annotated[str, AfterValidator(as_origin)] | None = Field(
        default=None, description="The origin this service is reached at. Empty: loopback names, in development only."
    )
    ops_allow: Networks = Field(
        (), description="Networks that see health details and metrics besides loopback, comma-separated."
    )
    ops_token: SecretStr | None = Field(default=None, description="Bearer token for health details and metrics.")
    body_limit_bytes: PositiveInt = Field(131_072, description="Largest request body, in bytes.")
    body_timeout_s: PositiveFloat = Field(20.0, description="Seconds a request body may take to arrive.")
    loop_blocked_s: float = Field(
        0.5, ge=0.05, le=1, description="Seconds after which whatever holds the event loop is named in the log."
    )
    loop_stuck_s: float = Field(
        10.0, ge=1, description="Seconds after which a worker whose event loop is still held is replaced."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_format: Literal["auto", "json", "pretty"] = Field(
        "auto", description="`auto`: pretty in a terminal, JSON elsewhere and in production."
    )
    log_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Part of the successful requests of probes, scrapes and for the widget's files that get a line in "
        "the log. Failures always do.",
    )

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    @property
    def serves_docs(self) -> bool:
        return self.docs if self.docs is not None else not self.is_production

    @property
    def serves_demo_page(self) -> bool:
        return self.demo_page if self.demo_page is not None else not self.is_production


class TelemetrySettings(Slice):
    """Traces: none without an endpoint."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_OTLP_")

    endpoint: CollectorUrl | None = Field(
        default=None,
        validation_alias=AliasChoices("PARLEY_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="URL of an OpenTelemetry collector (OTLP over HTTP, mostly port 4318). Empty: no traces.",
    )
    headers: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("PARLEY_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
        description="Headers the collector asks for: `name=value`, comma-separated, values percent-encoded.",
    )
    service: str = Field(
        "parley",
        validation_alias=AliasChoices("PARLEY_OTLP_SERVICE", "OTEL_SERVICE_NAME"),
        description="Name of this service in traces.",
    )
    share: float = Field(
        1.0, ge=0, le=1, description="Part of the traces that begin here which are kept; a caller's choice is followed."
    )
    content: bool = Field(
        default=False,
        description="Put what people and models say into spans, without what looks like a secret, an e-mail address or "
        "a long number. It is personal data all the same.",
    )
    timeout_s: PositiveFloat = Field(3.0, description="Seconds the collector may take for a batch of spans.")
    queue: PositiveInt = Field(2048, description="Spans that may wait for the collector; more are dropped.")

    @property
    def header_fields(self) -> dict[str, str]:
        text = self.headers.get_secret_value() if self.headers else ""
        pairs = (part.partition("=") for part in text.split(","))
        return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs if name.strip()}


class DatabaseSettings(Slice):
    """PostgreSQL: where it is and how long anything may wait for it."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_DATABASE_")

    url: PostgresUrl | None = Field(
        default=None,
        validation_alias=AliasChoices("PARLEY_DATABASE_URL", "DATABASE_URL"),
        description="postgresql://user:password@host:5432/name. Empty: embedded PostgreSQL.",
    )
    pooled: bool = Field(
        default=False, description="A pooler such as pgbouncer in transaction mode stands before PostgreSQL."
    )
    pool_size: PositiveInt = Field(10, description="Connections a worker keeps.")
    pool_overflow: int = Field(5, ge=0, description="Connections a worker may add under load.")
    pool_timeout_s: PositiveFloat = Field(1.5, description="Seconds to wait for a free connection, then 503.")
    connect_timeout_s: PositiveFloat = Field(2.0, description="Seconds to wait for a new connection.")
    command_timeout_s: PositiveFloat = Field(5.0, description="Seconds a client waits for one statement.")
    statement_timeout_s: PositiveFloat = Field(4.0, description="Seconds the server runs one statement.")
    lock_timeout_s: PositiveFloat = Field(2.0, description="Seconds a statement waits for a lock.")
    idle_in_transaction_s: PositiveFloat = Field(10.0, description="Seconds until an idle transaction is ended.")


class RedisSettings(Slice):
    """Redis or Valkey: where it is and how long anything may wait for it."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_REDIS_")

    url: RedisUrl | None = Field(
        default=None,
        validation_alias=AliasChoices("PARLEY_REDIS_URL", "REDIS_URL"),
        description="redis://host:6379/0. Empty: embedded Valkey.",
    )
    timeout_s: PositiveFloat = Field(0.5, description="Seconds to wait for an answer.")
    connect_timeout_s: PositiveFloat = Field(0.5, description="Seconds to wait for a connection.")
    pool_size: PositiveInt = Field(32, description="Most connections of a worker.")


class LimitSettings(Slice):
    """Requests a caller may make, in the grammar `count/period` (see the limits library)."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_LIMIT_")

    general: LimitText = Field("100/minute", description="Any route without a limit of its own, each route apart.")
    lists: LimitText = Field("60/minute", description="Lists and searches.")
    ask: LimitText = Field("20/minute", description="Questions, over any transport. Only those that are stored count.")
    login: LimitText = Field("5/minute", description="Log-ins, per client address.")
    register_: LimitText = Field(
        "5/minute",
        validation_alias=AliasChoices("PARLEY_LIMIT_REGISTER"),
        description="Registrations, per client address.",
    )
    assets: LimitText = Field(
        "3000/minute", description="Files of the widget, per client address: a first visit takes some twenty."
    )
    deadline_s: PositiveFloat = Field(
        0.25, description="Seconds to wait for Redis to decide, then this worker's own memory decides."
    )

"""All settings in one frozen value, built once by `load` and handed down.

Real environment variables win over the `.env` file, which wins over the defaults. `load` also knows where each value
came from, so that `parley config` can say it.
"""

import difflib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import AliasChoices, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from parley.agents.settings import AgentsSettings
from parley.auth.settings import AuthSettings
from parley.chat.settings import ChatSettings
from parley.core.settings import (
    DatabaseSettings,
    LimitSettings,
    RedisSettings,
    ServerSettings,
    Slice,
    TelemetrySettings,
)

PRODUCTION_BCRYPT_COST = 10  # the least OWASP names


class SettingsError(Exception):
    """The settings cannot be used; the message is one sentence for the person who wrote them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The slices of all packages."""

    server: ServerSettings
    database: DatabaseSettings
    redis: RedisSettings
    limits: LimitSettings
    telemetry: TelemetrySettings
    auth: AuthSettings
    agents: AgentsSettings
    chat: ChatSettings
    embedded: bool = False
    """Whether this process uses engines that a `parley serve` of the same data folder owns."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Environment variable name to where its value came from; what is absent is a default."""
    unknown: tuple[str, ...] = ()
    """Variables that look like ours and are not, each with what was probably meant."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as the documentation names it."""

    slice: str
    name: str
    env_names: tuple[str, ...]
    info: FieldInfo


SLICES: dict[str, type[Slice]] = {
    "server": ServerSettings,
    "database": DatabaseSettings,
    "redis": RedisSettings,
    "limits": LimitSettings,
    "telemetry": TelemetrySettings,
    "auth": AuthSettings,
    "agents": AgentsSettings,
    "chat": ChatSettings,
}
_NAMED_FIELD = re.compile(r'field "(\w+)"')
# Private to a `parley serve` and its children: says that the engines named in the environment are its own.
EMBEDDED_MARK = "PARLEY_EMBEDDED"


def every_setting() -> Iterator[Setting]:
    """Yield each setting in the order of the documentation."""
    for slice_name, slice_type in SLICES.items():
        for name, info in slice_type.model_fields.items():
            alias = info.validation_alias
            names = (
                tuple(str(choice) for choice in alias.choices)
                if isinstance(alias, AliasChoices)
                else (f"{slice_type.model_config.get('env_prefix', '')}{name}".upper(),)
            )
            yield Setting(slice_name, name, names, info)


class _MappingSource(EnvSettingsSource):
    """The environment as a value that was handed in, not as the process happens to have it."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        self._variables = {name.lower(): value for name, value in variables.items()}
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


def load(environ: Mapping[str, str] | None = None, *, env_file: Path | None = None, **overrides: object) -> Settings:
    """Build the settings from environment variables and a `.env` file; raise SettingsError with one sentence.

    `overrides` are fields of the server slice that the command line names; None means not given.
    """
    environ = os.environ if environ is None else environ
    from_file = dotenv_values(env_file) if env_file is not None and env_file.is_file() else {}
    # An empty variable is one that somebody left open: the default holds.
    variables = {name: value for name, value in {**from_file, **environ}.items() if value not in {None, ""}}
    given = {name: value for name, value in overrides.items() if value is not None}
    slices: dict[str, Any] = {}
    for slice_name, slice_type in SLICES.items():
        try:
            values = _MappingSource(slice_type, variables)()
            slices[slice_name] = slice_type(**{**values, **(given if slice_name == "server" else {})})
        except (ValidationError, ValueError) as error:
            raise SettingsError(_sentence(slice_name, error, variables)) from None
    settings = Settings(
        **slices,
        embedded=variables.get(EMBEDDED_MARK) == "1",
        sources=_sources(variables, environ, given),
        unknown=tuple(_unknown(variables)),
    )
    _check_production(settings)
    return settings


def with_secret(settings: Settings, secret_file: Path) -> Settings:
    """Return settings that can sign tokens: where none was set, the secret kept in the data folder, made once."""
    if settings.auth.secrets:
        return settings
    secret = SecretStr(_kept_secret(secret_file))
    auth = settings.auth.model_copy(update={"secrets": (secret,)})
    sources = {**settings.sources, "PARLEY_AUTH_SECRETS": str(secret_file)}
    return replace(settings, auth=auth, sources=sources)


def _kept_secret(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    # Written whole under another name, then linked: of two that start at once, one wins and both read the same.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48))
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii").strip()


def _sources(
    variables: Mapping[str, str],
    environ: Mapping[str, str],
    given: Mapping[str, Any],
) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting in every_setting():
        for name in setting.env_names:
            if name in variables:
                where = "environment" if environ.get(name) else ".env"
                found[setting.env_names[0]] = where if name == setting.env_names[0] else f"{where} ({name})"
                break
        if setting.slice == "server" and setting.name in given:
            found[setting.env_names[0]] = "command line"
    return found


def _unknown(variables: Mapping[str, str]) -> Iterator[str]:
    known = {name for setting in every_setting() for name in setting.env_names}
    for name in sorted(variables):
        if name.startswith("PARLEY_") and name not in known and name != EMBEDDED_MARK:
            close = difflib.get_close_matches(name, known, n=1)
            yield f"{name} (did you mean {close[0]}?)" if close else name


def _sentence(slice_name: str, error: ValidationError | ValueError, variables: Mapping[str, str]) -> str:
    """Say which variable is wrong and why, without its value: it may be a secret."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field_name, reason = str(first["loc"][0]) if first["loc"] else "", first["msg"].removeprefix("Value error, ")
    else:  # pydantic-settings names the field of a value that is no JSON, and nothing else
        named = _NAMED_FIELD.search(str(error))
        field_name, reason = named[1] if named else "", "must be JSON"
    names = {s.name: s for s in every_setting() if s.slice == slice_name}
    by_alias = {alias: s for s in names.values() for alias in s.env_names}
    setting = names.get(field_name) or by_alias.get(field_name)
    names_of_it = setting.env_names if setting else (field_name,)
    variable = next((name for name in names_of_it if name in variables), names_of_it[0])
    return f"{variable} {reason}" if reason.startswith("must ") else f"{variable}: {reason[0].lower()}{reason[1:]}"


def _check_production(settings: Settings) -> None:
    if not settings.server.is_production:
        return
    server, auth = settings.server, settings.auth
    refusals = [
        ("PARLEY_DEBUG must be off", server.debug),
        ("PARLEY_AUTH_SECRETS must be set (try: openssl rand -base64 48)", not auth.secrets),
        (
            "PARLEY_TRUSTED_PROXIES must name networks, not everything",
            any(n.prefixlen == 0 for n in server.trusted_proxies),
        ),
        ("PARLEY_OPS_ALLOW must name networks, not everything", any(n.prefixlen == 0 for n in server.ops_allow)),
        (
            "DATABASE_URL must be set: embedded engines are for development",
            settings.database.url is None or settings.embedded,
        ),
        (
            "REDIS_URL must be set: embedded engines are for development",
            settings.redis.url is None or settings.embedded,
        ),
        (
            "OPENAI_API_KEY must be set (or PARLEY_DEMO=1 for the demo model)",
            settings.agents.is_demo and not server.demo,
        ),
        (
            f"PARLEY_AUTH_BCRYPT_COST must be at least {PRODUCTION_BCRYPT_COST}",
            auth.bcrypt_cost < PRODUCTION_BCRYPT_COST,
        ),
    ]
    wrong = [sentence for sentence, is_wrong in refusals if is_wrong]
    if wrong:
        raise SettingsError("in production " + "; ".join(wrong))

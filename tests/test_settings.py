"""Settings: what wins, what is refused, and that the refusal names the variable and keeps the value to itself."""

from pathlib import Path

import pytest

from parley.settings import SettingsError, load, with_secret

PRODUCTION = {
    "PARLEY_ENVIRONMENT": "production",
    "PARLEY_AUTH_SECRETS": "0123456789abcdefghijklmnopqrstuvwxyz-ABCDEF",
    "DATABASE_URL": "postgresql://parley@db/parley",
    "REDIS_URL": "redis://cache:6379/0",
    "OPENAI_API_KEY": "sk-test",
}


def test_the_environment_wins_over_the_file_which_wins_over_the_default(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PARLEY_PORT=9001\nPARLEY_WORKERS=3\n")

    settings = load({"PARLEY_PORT": "9002"}, env_file=env_file)

    assert (settings.server.port, settings.server.workers, settings.server.host) == (9002, 3, "127.0.0.1")
    assert settings.sources == {"PARLEY_PORT": "environment", "PARLEY_WORKERS": ".env"}


def test_the_command_line_wins_over_everything() -> None:
    settings = load({"PARLEY_PORT": "9002"}, port=9003, workers=None)

    assert settings.server.port == 9003
    assert settings.sources["PARLEY_PORT"] == "command line"


def test_conventional_names_work_and_ours_win() -> None:
    settings = load({"DATABASE_URL": "postgresql://a/b", "REDIS_URL": "redis://a", "PARLEY_REDIS_URL": "redis://ours"})

    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql://a/b"
    assert settings.redis.url is not None
    assert settings.redis.url.get_secret_value() == "redis://ours"


def test_a_misspelt_variable_is_named_with_what_was_meant() -> None:
    assert load({"PARLEY_WORKRES": "4"}).unknown == ("PARLEY_WORKRES (did you mean PARLEY_WORKERS?)",)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PARLEY_PORT", "tcp://10.0.0.1:8000"),
        ("PARLEY_AUTH_SECRETS", "short-canary"),
        ("PARLEY_AUTH_SECRETS", "canary" * 9 + "\n-----BEGIN PUBLIC KEY-----"),
        ("PARLEY_AUTH_SECRETS", "ssh-rsa canaryAAAAB3NzaC1yc2EAAAADAQABAAABgQ"),
        ("PARLEY_LIMIT_LOGIN", "sometimes"),
        ("PARLEY_ALLOWED_ORIGINS", "*"),
        ("PARLEY_TRUSTED_PROXIES", "everything"),
        ("PARLEY_MODEL_PROVIDERS", "canary"),
        ("PARLEY_MODEL_PROVIDERS", '{"backup": {"api_key": "canary"}}'),
    ],
)
def test_a_bad_value_is_refused_by_name_and_secrets_are_not_repeated(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable) as refusal:
        load({variable: value})

    assert "canary" not in str(refusal.value)


def test_production_starts_with_everything_in_place() -> None:
    settings = load(PRODUCTION)

    assert settings.server.is_production
    assert not settings.server.serves_docs


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"PARLEY_DEBUG": "1"}, "PARLEY_DEBUG"),
        ({"PARLEY_AUTH_SECRETS": ""}, "PARLEY_AUTH_SECRETS"),
        ({"PARLEY_TRUSTED_PROXIES": "0.0.0.0/0"}, "PARLEY_TRUSTED_PROXIES"),
        ({"PARLEY_OPS_ALLOW": "::/0"}, "PARLEY_OPS_ALLOW"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"REDIS_URL": ""}, "REDIS_URL"),
        ({"PARLEY_EMBEDDED": "1"}, "embedded"),
        ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
        ({"PARLEY_AUTH_BCRYPT_COST": "9"}, "PARLEY_AUTH_BCRYPT_COST"),
    ],
)
def test_production_refuses_what_is_unsafe(change: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load({**PRODUCTION, **change})


def test_production_takes_the_demo_model_only_when_asked_to() -> None:
    assert load({**PRODUCTION, "OPENAI_API_KEY": "", "PARLEY_DEMO": "1"}).agents.is_demo


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    first, second = with_secret(load({}), path), with_secret(load({}), path)

    assert first.auth.secrets == second.auth.secrets
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]

"""`.env.example` says what the settings say: every one of them, with values that load."""

from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values

from parley.cli.env_example import env_example
from parley.settings import every_setting, load

FILE = Path(__file__).resolve().parents[2] / ".env.example"
RENEW = "run: python -m parley.cli.env_example > .env.example"


def drift(text: str) -> str | None:
    """Return the first line that is not as it should be."""
    lines, wanted = text.splitlines(), env_example().splitlines()
    for number, (line, due) in enumerate(zip(lines, wanted, strict=False), start=1):
        if line != due:
            return f"line {number} is {line!r} and should be {due!r}"
    return None if len(lines) == len(wanted) else f"{len(lines)} lines instead of {len(wanted)}"


def examples() -> dict[str, str]:
    """Return the settings of the file as if each had its # taken away."""
    text = "\n".join(line.removeprefix("#") for line in FILE.read_text().splitlines() if not line.startswith("# "))
    return {name: value or "" for name, value in dotenv_values(stream=StringIO(text)).items()}


def test_the_file_is_current() -> None:
    assert drift(FILE.read_text()) is None, f"{drift(FILE.read_text())}; {RENEW}"


def test_a_change_is_noticed() -> None:
    text = FILE.read_text()

    assert drift(text.replace("#PARLEY_PORT=8000", "#PARLEY_PORT=8001")) is not None
    assert drift(text.replace("#PARLEY_PORT=8000\n", "")) is not None
    assert drift(text + "#PARLEY_NEW=1\n") is not None


def test_every_setting_is_there_once_under_the_name_people_know() -> None:
    assert list(examples()) == [setting.env_names[-1] for setting in every_setting()]
    assert {"DATABASE_URL", "REDIS_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"} <= examples().keys()


def test_copied_as_it_is_it_changes_nothing(tmp_path: Path) -> None:
    copy = tmp_path / ".env"
    copy.write_text(FILE.read_text())

    assert load({}, env_file=copy) == load({})


@pytest.mark.parametrize(("name", "value"), examples().items())
def test_each_value_loads_and_is_the_default(name: str, value: str) -> None:
    changed, default = load({name: value}), load({})

    assert (changed.unknown, changed.server, changed.limits) == ((), default.server, default.limits)
    assert (changed.database, changed.redis, changed.auth, changed.agents) == (
        default.database,
        default.redis,
        default.auth,
        default.agents,
    )

"""The README's table of settings is the one the settings give."""

from pathlib import Path

from parley.cli.settings_table import END, START, with_table
from parley.settings import every_setting

FILE = Path(__file__).resolve().parents[2] / "README.md"


def test_the_table_is_there_and_current() -> None:
    text = FILE.read_text()

    assert START in text
    assert END in text
    assert with_table(text) == text, "run: python -m parley.cli.settings_table README.md"


def test_a_change_is_noticed_and_mended_without_touching_the_rest() -> None:
    text = with_table(f"before\n{FILE.read_text()}after\n")
    changed = text.replace("| `8000` |", "| `8001` |")

    assert changed != text
    assert with_table(changed) == text


def test_every_setting_has_a_row() -> None:
    text = FILE.read_text()

    assert all(f"| `{setting.env_names[-1]}` |" in text for setting in every_setting())

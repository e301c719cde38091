"""The Markdown table of all settings; `python -m parley.cli.settings_table README.md` puts it between its markers."""

import sys
from pathlib import Path

from parley.cli.env_example import default_text, meaning, preferred_name
from parley.settings import every_setting

START, END = "<!-- settings -->", "<!-- /settings -->"


def settings_table() -> str:
    """Return the table: name, default, meaning."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for setting in every_setting():
        default = default_text(setting)
        cells = [f"`{preferred_name(setting)}`", f"`{default}`" if default else "", meaning(setting)]
        rows.append(" | ".join(["", *(cell.replace("|", r"\|") for cell in cells), ""]).strip())
    return "\n".join(rows)


def with_table(document: str) -> str:
    """Return the document with the present table between its markers, appended where it has none."""
    block = f"{START}\n{settings_table()}\n{END}"
    before, start, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        return f"{document.rstrip()}\n\n{block}\n".lstrip()
    return f"{before}{block}{after}"


def main() -> None:
    """Bring the table of a file up to date."""
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

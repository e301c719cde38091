"""Writes dashboards/*.json from the pages: `python -m grafana.draw`."""

import json
from pathlib import Path

from grafana.pages.model import MODEL
from grafana.pages.service import SERVICE
from grafana.pages.sockets import SOCKETS
from grafana.pages.stores import STORES
from grafana.pages.streams import STREAMS

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = (SERVICE, STREAMS, MODEL, SOCKETS, STORES)


def files() -> dict[Path, str]:
    """Return what each file should hold."""
    return {FOLDER / f"{one.name}.json": json.dumps(one.drawn(), indent=2) + "\n" for one in DASHBOARDS}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)

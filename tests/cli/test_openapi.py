"""The OpenAPI document from the command line, without any server."""

import json
from pathlib import Path

from tests.cli.conftest import Parley


async def test_the_document_is_printed_without_database_redis_or_secret(cold_parley: Parley, folder: Path) -> None:
    printed = await cold_parley("openapi")

    document = json.loads(printed.out)
    assert (printed.code, printed.err) == (0, "")
    assert document["openapi"].startswith("3.")
    assert "/auth/token" in document["paths"]
    assert not (folder / "data").exists()


async def test_the_document_is_written_to_a_file(parley: Parley, folder: Path) -> None:
    written = await parley("openapi", "--output", "openapi.json")

    assert (written.code, written.out) == (0, "")
    assert json.loads((folder / "openapi.json").read_text())["info"]["title"] == "Parley"


async def test_a_file_that_cannot_be_written_is_one_line(parley: Parley) -> None:
    refused = await parley("openapi", "--output", "nowhere/openapi.json")

    assert (refused.code, refused.error) == (
        1,
        "nowhere/openapi.json cannot be written (no such file or directory)",
    )

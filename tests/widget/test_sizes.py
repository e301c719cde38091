"""What a page pays for the widget, as it is sent to who takes gzip."""

import asyncio

import pytest
from tests.fixtures.service import Service

LOADER_BYTES = 1536
WHOLE_BYTES = 30 * 1024
LANGUAGES = ("en", "de", "es", "ar")


async def _sent_bytes(service: Service, path: str) -> int:
    answer = await service.http.get(path, headers={"Accept-Encoding": "gzip"}, follow_redirects=True)
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    return int(answer.headers["content-length"])


async def test_the_loader_is_small(service: Service) -> None:
    """Every visitor of the page loads this much."""
    assert await _sent_bytes(service, "/widget.js") <= LOADER_BYTES


@pytest.mark.parametrize("language", LANGUAGES)
async def test_all_of_it_is_small(service: Service, language: str) -> None:
    """Loader, widget with its styles, and one language: there is nothing more to load, whatever is done with it."""
    paths = ("/widget.js", "/widget/latest/widget.js", f"/widget/latest/locales/{language}.js")

    assert sum(await asyncio.gather(*(_sent_bytes(service, path) for path in paths))) <= WHOLE_BYTES

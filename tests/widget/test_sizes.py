"""What a page pays for the widget, packed as it is served."""

import pytest

from parley.pages.assets import Asset, load_assets

LOADER_BYTES = 1536
OPENED_BYTES = 30 * 1024
LANGUAGES = ("en", "de", "es", "ar")


def _packed_bytes(asset: Asset) -> int:
    return len(asset.packed or asset.body)


def test_the_loader_is_small() -> None:
    """Every visitor of the page loads this much."""
    assert _packed_bytes(load_assets().files["loader.js"]) <= LOADER_BYTES


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_open_is_small(language: str) -> None:
    """Who opens the chat loads this much more: the widget with its styles, and one language."""
    assets = load_assets()
    loaded = [assets.files["widget.js"], assets.files[f"locales/{language}.js"]]

    assert sum(map(_packed_bytes, loaded)) <= OPENED_BYTES

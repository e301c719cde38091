"""Files are read, hashed and packed once; one byte elsewhere is another version."""

import base64
import gzip
import hashlib
from pathlib import Path

import pytest

from parley.pages.assets import HASH_MARK, load_assets

LONG = b"export const words = [" + b'"the same again", ' * 200 + b"];\n"
STYLE = b"body { margin: 0 }"
FILES = {
    "loader.js": b'import("widget/' + HASH_MARK + b'/widget.js")',
    "state.js": LONG,
    "locales/de.js": b"export default {};",
    "pages/chat.html": b"<style>" + STYLE + b"</style><script src='/widget/" + HASH_MARK + b"/page.js'></script>",
    "pages/page.js": b"void 0;",
    "notes.md": b"not for browsers",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small widget."""
    for name, body in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)
    return tmp_path


def test_files_go_by_their_path_and_pages_by_their_name(folder: Path) -> None:
    assets = load_assets(folder)

    assert set(assets.files) == {"loader.js", "state.js", "locales/de.js", "pages/page.js"}
    assert set(assets.pages) == {"chat"}
    assert assets.files["state.js"].media_type == "text/javascript; charset=utf-8"


def test_the_mark_stands_for_the_version(folder: Path) -> None:
    assets = load_assets(folder)

    assert assets.files["loader.js"].body == f'import("widget/{assets.version}/widget.js")'.encode()
    assert f"/widget/{assets.version}/page.js".encode() in assets.pages["chat"].body


def test_packed_is_the_same_and_smaller_or_not_at_all(folder: Path) -> None:
    assets = load_assets(folder)
    packed = assets.files["state.js"].packed

    assert packed is not None
    assert len(packed) < len(LONG) / 10
    assert gzip.decompress(packed) == LONG
    assert assets.files["pages/page.js"].packed is None


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".md")])
def test_any_byte_is_another_version(folder: Path, name: str) -> None:
    before = load_assets(folder)
    assert load_assets(folder).version == before.version

    (folder / name).write_bytes(FILES[name] + b" ")

    assert load_assets(folder).version != before.version


def test_a_file_that_moves_is_another_version(folder: Path) -> None:
    before = load_assets(folder).version
    (folder / "state.js").rename(folder / "widgets.js")  # as long, and at the same place among the others

    assert load_assets(folder).version != before


def test_a_pages_styles_are_named_and_nothing_else_is_let_in(folder: Path) -> None:
    policy = load_assets(folder).policies["chat"]

    digest = base64.b64encode(hashlib.sha256(STYLE).digest()).decode()
    assert f"style-src 'self' 'sha256-{digest}';" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


def test_our_own_widget_is_whole() -> None:
    """What the package carries refers to nothing that is not there."""
    assets = load_assets()

    assert "loader.js" in assets.files
    assert not [name for name, file in assets.files.items() if HASH_MARK in file.body]

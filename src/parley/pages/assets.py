"""The files of the widget: read, hashed and packed once at the start, then served from memory.

One hash names all of them together, so that modules import each other by relative paths and never mix two versions.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from parley.pages.packing import bare, pack

HASH_MARK = b"__PARLEY_WIDGET_HASH__"  # stands in a file for the hash of all of them
HASH_CHARS = 16
LOADER = "loader.js"
ENTRY = "widget.js"  # what the loader loads when the chat is first opened: one request for all of it
GZIP_WINDOW = 16 + zlib.MAX_WBITS  # a head and an end as gzip has them, with no time in it
PAGES = "pages"  # the folder of our own pages, which are no part of what others load
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
_STYLE = re.compile(rb"<style[^>]*>(.*?)</style>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    body: bytes
    packed: bytes | None
    """With gzip; None where that makes it no smaller."""
    media_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, suffix: str) -> "Asset":
        press = zlib.compressobj(9, zlib.DEFLATED, GZIP_WINDOW, 9)
        packed = press.compress(body) + press.flush()
        digest = hashlib.sha256(body).hexdigest()[:HASH_CHARS]
        # Weak: packed and plain are two bodies of one file.
        return cls(body, packed if len(packed) < len(body) else None, TYPES[suffix], f'W/"{digest}"')


@dataclass(frozen=True, slots=True)
class Assets:
    """All of them, by the path below the folder of the widget."""

    version: str
    files: Mapping[str, Asset]
    pages: Mapping[str, Asset]
    """Our own pages by name."""
    policies: Mapping[str, str]
    """What each of our pages may do."""


def load_assets(folder: Path | None = None) -> Assets:
    """Read the package's own files, or those of a folder. Blocks: for a thread, at the start."""
    folder = folder or Path(str(files("parley") / "widget"))
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES and path.is_file()
    }
    version = _hash_of(found)
    whole = {name: body.replace(HASH_MARK, version.encode()) for name, body in _packed(found).items()}
    pages = {name: body for name, body in whole.items() if name.startswith(f"{PAGES}/") and name.endswith(".html")}
    others = {name: body for name, body in whole.items() if name not in pages}
    return Assets(
        version=version,
        files={name: Asset.of(body, Path(name).suffix) for name, body in others.items()},
        pages={Path(name).stem: Asset.of(body, ".html") for name, body in pages.items()},
        policies={Path(name).stem: _policy(body) for name, body in pages.items()},
    )


def _packed(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files as they are sent: modules without comments, and the entry with all that it imports."""
    sources = {name: body.decode() for name, body in found.items() if name.endswith(".js")}
    return {**found, **dict(_made(tuple(sources.items())))}


@lru_cache(2)  # a tenth of a second of work: done once by a process, however many services it starts
def _made(sources: tuple[tuple[str, str], ...]) -> tuple[tuple[str, bytes], ...]:
    sent = {name: bare(source) for name, source in sources}
    if ENTRY in sent:
        sent[ENTRY] = pack(dict(sources), ENTRY)
    return tuple((name, body.encode()) for name, body in sent.items())


def _hash_of(found: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, body in found.items():
        digest.update(f"{name}\0{len(body)}\0".encode())
        digest.update(body)
    return digest.hexdigest()[:HASH_CHARS]


def _policy(page: bytes) -> str:
    """Return the policy of a page of ours: its own origin, no script in the page, nothing that makes HTML of text."""
    styles = [base64.b64encode(hashlib.sha256(style).digest()).decode() for style in _STYLE.findall(page)]
    allowed = "".join(f" 'sha256-{digest}'" for digest in styles)
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'{allowed}; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )

"""The widget's files for everybody's pages, and our own pages with the widget on them."""

import os
import re
import signal
from collections.abc import Mapping
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from parley.core.client_address import ClientAddress
from parley.core.errors import NotFound
from parley.core.limits import Assets as AssetLimit
from parley.core.limits import General
from parley.core.origins import LOOPBACK
from parley.pages.assets import HASH_CHARS, LOADER, Asset, Assets

log = structlog.get_logger(__name__)

router = APIRouter(include_in_schema=False)
demo_page = APIRouter(include_in_schema=False)
break_it = APIRouter(include_in_schema=False)

# Any page may load them: what they do there is decided by keys, origins and tokens.
PUBLIC = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
FOR_EVER = {**PUBLIC, "Cache-Control": "public, max-age=31536000, immutable"}
FOR_A_MOMENT = {**PUBLIC, "Cache-Control": "public, max-age=300"}  # how long pages go on with the version before
# Another version, while workers are replaced; `latest` for pages that build their own on `client.js`.
_VERSION = re.compile(rf"(?:[0-9a-f]{{{HASH_CHARS}}}|latest)\Z")
_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE)


async def _assets(connection: HTTPConnection) -> Assets:
    assets: Assets = connection.state.assets
    return assets


TheAssets = Annotated[Assets, Depends(_assets)]


@router.get("/widget.js")
async def loader(_: AssetLimit, request: Request, assets: TheAssets) -> Response:
    """Send the only file whose address never changes: it knows where the others are."""
    return _send(request, _found(assets.files, LOADER), FOR_A_MOMENT)


@router.get("/widget/{version}/{path:path}")
async def file(_: AssetLimit, request: Request, assets: TheAssets, version: str, path: str) -> Response:
    """Send a file of the widget; for one of another version, say where that of this version is."""
    asset = _found(assets.files, path)
    if version == assets.version:
        return _send(request, asset, FOR_EVER)
    if not _VERSION.match(version):
        raise NotFound
    return RedirectResponse(f"/widget/{assets.version}/{path}", headers={**PUBLIC, "Cache-Control": "no-store"})


@router.get("/chat")
async def chat(_: AssetLimit, request: Request, assets: TheAssets) -> Response:
    """Show the chat on a page of its own."""
    return _page(request, assets, "chat")


@demo_page.get("/")
async def demo(_: AssetLimit, request: Request, assets: TheAssets) -> Response:
    """Show the demo shop."""
    return _page(request, assets, "demo")


@break_it.post("/demo/kill-worker")
async def kill_worker(_: General, request: Request, origin: Annotated[str | None, Header()] = None) -> Response:
    """End the worker that answers, as hard as it can be ended. Only mounted in development; only for this machine."""
    client: ClientAddress = request.scope["client_address"]
    # A stranger's page in a developer's browser calls from this machine too.
    if not client.is_loopback or origin is None or not LOOPBACK.match(origin):
        raise NotFound
    log.warning("worker_killed_by_the_demo_page")
    os.kill(os.getpid(), signal.SIGKILL)
    return Response(status_code=202)


def _page(request: Request, assets: Assets, name: str) -> Response:
    page = _found(assets.pages, name)
    return _send(request, page, {"Cache-Control": "no-cache", "Content-Security-Policy": assets.policies[name]})


def _found(assets: Mapping[str, Asset], name: str) -> Asset:
    asset = assets.get(name)
    if asset is None:
        raise NotFound
    return asset


def _send(request: Request, asset: Asset, headers: Mapping[str, str]) -> Response:
    said = {**headers, "ETag": asset.etag, "Vary": "Accept-Encoding"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=said)
    if asset.packed is None or not _GZIP.search(request.headers.get("accept-encoding", "")):
        return Response(asset.body, headers=said, media_type=asset.media_type)
    return Response(asset.packed, headers={**said, "Content-Encoding": "gzip"}, media_type=asset.media_type)

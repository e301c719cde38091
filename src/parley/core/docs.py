"""The developers' pages, from local assets and under a strict policy: nothing is loaded from anywhere else."""

import asyncio
import base64
import hashlib
import importlib.util
from pathlib import Path
from typing import Literal

import orjson
from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, HTMLResponse, Response

from parley.core.limits import General

Asset = Literal["swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley: {title}</title>
<link rel="icon" href="/docs/assets/favicon.png">
{head}
</head>
<body>
<div id="page"></div>
<script src="/docs/assets/{script}"></script>
<script>{start}</script>
</body>
</html>"""
_SWAGGER = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#page", deepLinking: true, persistAuthorization: false,
displayRequestDuration: true, tryItOutEnabled: true, presets: [SwaggerUIBundle.presets.apis]})"""
_REDOC = """Redoc.init("/openapi.json", {hideHostname: true}, document.getElementById("page"))"""


def docs_router(app: FastAPI) -> APIRouter:
    """Return the routes of the pages and of the document they show."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def document(_: General) -> Response:
        # Made once, in a thread: it takes longer than anything may hold the loop.
        return Response(orjson.dumps(await asyncio.to_thread(app.openapi)), media_type="application/json")

    @router.get("/docs")
    async def docs(_: General) -> HTMLResponse:
        style = '<link rel="stylesheet" href="/docs/assets/swagger-ui.css">'
        return _page("try the API", "swagger-ui-bundle.js", style, _SWAGGER)

    @router.get("/redoc")
    async def redoc(_: General) -> HTMLResponse:
        return _page("read the API", "redoc.standalone.js", "<style>body{margin:0}</style>", _REDOC)

    @router.get("/docs/assets/{name}")
    async def asset(_: General, name: Asset) -> FileResponse:
        return FileResponse(_assets() / name, headers={"Cache-Control": "public, max-age=86400"})

    return router


def _assets() -> Path:
    spec = importlib.util.find_spec("fastapi_offline")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("fastapi-offline")
    return Path(spec.submodule_search_locations[0]) / "static"


def _page(title: str, script: Asset, head: str, start: str) -> HTMLResponse:
    digest = base64.b64encode(hashlib.sha256(start.encode()).digest()).decode()
    # Both renderers write style attributes; ReDoc searches in a worker made from a blob.
    policy = (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )
    html = _PAGE.format(title=title, head=head, script=script, start=start)
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})

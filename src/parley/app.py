"""The application: middleware, error handlers, routers, lifespan. The only importer of routers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware

from parley import __version__
from parley.agents import router as agents_router
from parley.auth import audit_router, sites_router
from parley.auth import router as auth_router
from parley.chat import router as chat_router
from parley.chat import stream_router
from parley.container import Parts, open_container
from parley.core import metrics_router
from parley.core import router as core_router
from parley.core.clock import SystemClock
from parley.core.cors import Cors
from parley.core.docs import docs_router
from parley.core.drain import Drain
from parley.core.error_handlers import ErrorBorder, register_error_handlers
from parley.core.health import Readiness
from parley.core.instruments import make_instruments
from parley.core.middleware import BodyLimit, RequestContext
from parley.core.openapi import describe
from parley.core.origins import Origins
from parley.core.routing import build_routes
from parley.core.telemetry import open_telemetry
from parley.pages import router as pages_router
from parley.privacy import router as privacy_router
from parley.settings import Settings

TAGS = [
    {"name": "auth", "description": "Accounts, tokens that rotate, guests of the widget, tickets for sockets."},
    {"name": "sites", "description": "Web sites that carry the widget, and the users their servers name."},
    {"name": "chat", "description": "Conversations: asked, answered, kept, shared, rated."},
    {"name": "agents", "description": "What answers: prompts, models, tools and limits, by version. For admins."},
    {"name": "health", "description": "For load balancers, orchestrators and people."},
]
EXPOSED_HEADERS = ["X-Request-ID", "Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]


def create_app(settings: Settings) -> FastAPI:
    """Build the application for these settings; nothing is opened before its lifespan starts."""
    readiness = Readiness("starting")
    drain = Drain(readiness)
    server, origins = settings.server, Origins(settings.server)
    instruments = make_instruments(SystemClock(), __version__, open_telemetry(settings.telemetry, __version__))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Parts]:
        async with open_container(settings, readiness, drain, origins, instruments) as parts:
            yield parts

    app = FastAPI(
        title="Parley",
        version=__version__,
        summary="Real-time AI chat for customer support.",
        debug=False,  # a traceback in an answer helps strangers more than us
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        middleware=[
            Middleware(RequestContext, settings=server, instruments=instruments),
            Middleware(
                Cors,
                origins=origins,
                allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
                allow_headers=["Authorization", "Content-Type", "Last-Event-ID", "X-Request-ID"],
                expose_headers=EXPOSED_HEADERS,
                max_age=600,
            ),
            Middleware(ErrorBorder),
            Middleware(BodyLimit, max_bytes=server.body_limit_bytes, within_s=server.body_timeout_s),
        ],
    )
    app.state.readiness, app.state.drain, app.state.instruments = readiness, drain, instruments
    register_error_handlers(app)
    # Tried in order: the busy ones first.
    app.include_router(stream_router.router)
    app.include_router(chat_router.router)
    app.include_router(core_router.router)
    app.include_router(metrics_router.router)
    app.include_router(auth_router.router)
    app.include_router(audit_router.router)
    app.include_router(sites_router.router)
    app.include_router(privacy_router.router)
    app.include_router(agents_router.router)
    app.include_router(pages_router.router)
    if server.serves_demo_page:
        app.include_router(pages_router.demo_page)
    if not server.is_production:
        app.include_router(pages_router.break_it)
        app.include_router(metrics_router.debug)
    if server.serves_docs:
        app.include_router(docs_router(app))
    describe(app)
    build_routes(app)
    instruments.telemetry.instrument(app)
    return app


def _operation_id(route: APIRoute) -> str:
    """Name operations as generated clients should: `auth_register`."""
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name

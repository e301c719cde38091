"""The application: middleware, error handlers, routers, lifespan. The only importer of routers."""

from fastapi import FastAPI

from parley.core import router as core_router
from parley.core.health import Readiness
from parley.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """Build the application for these settings; nothing is opened before its lifespan starts."""
    app = FastAPI(title="Parley", debug=settings.server.debug)
    app.state.readiness = Readiness()
    app.include_router(core_router.router)
    return app

"""How failures appear in the OpenAPI document: each with the one body and an example of it."""

from http import HTTPStatus
from typing import Any

from parley.core.error_handlers import MEDIA_TYPE
from parley.core.schemas import ErrorBody

# What any route may answer, whoever calls it.
EVERYWHERE = (400, 408, 413, 422, 429, 500, 503)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may fail in these ways."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}}},
        }
        for status in statuses
    }

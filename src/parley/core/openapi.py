"""The OpenAPI document: FastAPI's, with our one error body wherever a request can fail."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from parley.core.problems import EVERYWHERE, problems
from parley.core.schemas import ErrorBody


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` tell how failures really look."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            app.openapi_schema = _with_problems(document)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to change the document


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    body = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(body.pop("$defs", {}))
    schemas[ErrorBody.__name__] = body
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # The first sentence of what it does says more than the name of a function.
            operation["summary"] = operation.get("description", operation["summary"]).split(".")[0]
            _add_problems(operation["responses"], is_probe=path.startswith("/health"))
    return document


def _add_problems(responses: dict[str, Any], *, is_probe: bool) -> None:
    # Probes take no input and are never refused.
    for status, problem in problems(*((500,) if is_probe else EVERYWHERE)).items():
        if status == 422 or str(status) not in responses:  # noqa: PLR2004  # FastAPI's own shape of it is not ours
            responses[str(status)] = problem

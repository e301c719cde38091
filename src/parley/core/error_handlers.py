"""From an exception to the one error body, for everything a caller can cause and for what we break ourselves."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from slowapi.errors import RateLimitExceeded
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from parley.core.errors import AppError
from parley.core.schemas import ErrorBody, ErrorDetail, FieldError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_FIELD_ERRORS = 20  # enough to mend a form; a hostile body gets no longer answer than it sent
_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media",
}
_SENTENCES = {
    400: "The request cannot be understood.",
    404: "There is nothing here.",
    405: "This method is not allowed here.",
    413: "The request body is too large.",
}
# Only these messages are known to repeat nothing of the input; `value_error` is our own sentence.
_SAFE_MESSAGES = re.compile(
    r"missing|extra_forbidden|value_error|literal_error|enum|json_invalid|too_(long|short)"
    r"|(string|int|float|bool|list|dict|tuple|model|uuid)_(type|too_long|too_short|pattern_mismatch)"
    r"|(int|float|bool)_parsing|(greater|less)_than(_equal)?|model_attributes_type|finite_number"
)
_OUR_STYLE = re.compile(r"[a-z_]{1,32}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")


def register_error_handlers(app: FastAPI) -> None:
    """Give the application one answer for every failure."""
    handlers: dict[type[Exception], Any] = {
        AppError: _app_error,
        RateLimitExceeded: _rate_limited,
        RequestValidationError: _invalid,
        HTTPException: _http_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def error_response(
    connection: HTTPConnection,
    status: int,
    detail: ErrorDetail,
    *,
    headers: dict[str, str] | None = None,
    errors: Sequence[FieldError] | None = None,
) -> Response:
    """Return the one error body."""
    request_id = connection.scope.get("request_id", "")
    body = ErrorBody(
        type=f"urn:parley:error:{detail.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail.message,
        instance=f"urn:parley:request:{request_id}",
        request_id=request_id,
        trace_id=connection.scope.get("trace_id"),
        error=detail,
        errors=list(errors) if errors else None,
    )
    absent = {name for name in ("errors", "trace_id") if getattr(body, name) is None}
    content = orjson.dumps(body.model_dump(mode="json", exclude=absent))
    return Response(content, status, headers, MEDIA_TYPE)


class ErrorBorder:
    """The last catch: what nobody expected becomes a logged 500 in the one shape, and the worker goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answer only where nothing has been sent yet."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except AppError as error:
            if scope["type"] != "http" or started:
                raise
            await _app_response(Request(scope), error)(scope, receive, send)
        except Exception as error:
            if scope["type"] == "websocket" and isinstance(error, OSError):
                return  # the peer left while it was being answered
            log.exception("request_failed")
            if scope["type"] != "http" or started:
                raise
            detail = ErrorDetail(code=AppError.code, message=AppError.message, retryable=False)
            await error_response(Request(scope), 500, detail)(scope, receive, send)


def _app_response(connection: HTTPConnection, error: AppError) -> Response:
    detail = ErrorDetail(code=error.code, message=error.message, retryable=error.retryable, param=error.param)
    headers = dict(error.headers) if error.headers else None
    return error_response(connection, error.status, detail, headers=headers)


async def _app_error(request: Request, error: AppError) -> Response:
    return _app_response(request, error)


async def _rate_limited(request: Request, error: RateLimitExceeded) -> Response:
    detail = ErrorDetail(code="rate_limited", message="Too many requests. Please slow down.", retryable=True)
    return error_response(request, 429, detail, headers=dict(error.headers or {}))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    fields = [_field(problem) for problem in error.errors()[:MAX_FIELD_ERRORS]]
    is_json = any(field.code == "json_invalid" for field in fields)
    param = next((str(part) for part in reversed(fields[0].loc) if isinstance(part, str)), None) if fields else None
    detail = ErrorDetail(
        code="invalid_json" if is_json else "validation_error",
        message="The request body is not valid JSON." if is_json else "The request has fields that cannot be accepted.",
        retryable=False,
        param=None if is_json else param,
    )
    return error_response(request, 400 if is_json else 422, detail, errors=fields)


async def _http_error(request: Request, error: HTTPException) -> Response:
    status = error.status_code
    detail = ErrorDetail(
        code=_CODES.get(status, f"http_{status}"),
        message=_SENTENCES.get(status, HTTPStatus(status).phrase),
        retryable=status in {408, 429, 503},
    )
    return error_response(request, status, detail, headers=dict(error.headers or {}))


def _field(problem: dict[str, Any]) -> FieldError:
    code = str(problem["type"])
    is_safe = _SAFE_MESSAGES.fullmatch(code) is not None
    message = str(problem["msg"]).removeprefix("Value error, ") if is_safe else "Input is not valid"
    loc = [_place(part) for part in problem["loc"]]
    if code == "extra_forbidden" and not _OUR_STYLE.match(str(loc[-1])):
        loc[-1] = "?"  # a name that is not ours may be anything, a password that slipped out of its field too
    return FieldError(loc=loc, code=code, message=message)


def _place(part: Any) -> str | int:
    """A place in the input: ours is named, and a name the caller chose only if it looks like one."""
    if isinstance(part, int):
        return part
    return part if isinstance(part, str) and _NAME.match(part) else "?"

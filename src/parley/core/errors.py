"""Everything a caller can be told went wrong: one family, each with its status, its stable code and a safe sentence.

AppError
├── BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, Conflict 409
├── PayloadTooLarge 413, BodyTimeout 408, Unprocessable 422
└── Unavailable 503 (retryable, with Retry-After)
"""

from typing import ClassVar

from starlette.exceptions import HTTPException


class AppError(HTTPException):
    """An expected failure. The class docstring of each kind is for developers, `message` is for callers."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    message: str = "Something went wrong on our side."
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.message = message or type(self).message
        self.code = code or type(self).code
        self.param = param
        super().__init__(self.status, self.message, headers)


class BadRequest(AppError):
    """The request cannot be understood."""

    status, code, message = 400, "bad_request", "The request cannot be understood."


class Unauthorized(AppError):
    """Nobody, or nobody we can still trust, stands behind the request."""

    status, code, message = 401, "unauthorized", "Sign in to do this."

    def __init__(self, message: str | None = None, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code=code, param=param, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(AppError):
    """The caller is known and may not."""

    status, code, message = 403, "forbidden", "You may not do this."


class NotFound(AppError):
    """It is absent, or not the caller's: both answer the same."""

    status, code, message = 404, "not_found", "There is nothing here."


class Conflict(AppError):
    """The state of things does not allow it now."""

    status, code, message = 409, "conflict", "This is not possible in the present state."


class BodyTimeout(AppError):
    """The body came too slowly."""

    status, code, message, retryable = 408, "body_timeout", "The request body took too long to arrive.", True


class PayloadTooLarge(AppError):
    """The body is larger than anything we take."""

    status, code, message = 413, "body_too_large", "The request body is too large."


class Unprocessable(AppError):
    """A field has a value it cannot have; `param` names it."""

    status, code, message = 422, "invalid_value", "A value cannot be accepted."


class Unavailable(AppError):
    """Something we need is away or full; coming back later helps."""

    status, code, message, retryable = 503, "unavailable", "The service is busy. Please try again.", True

    def __init__(self, message: str | None = None, *, code: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, code=code, headers={"Retry-After": str(retry_after_s)})


class DatabaseUnavailable(Unavailable):
    """PostgreSQL is away, hung, or has no free connection."""

    code, message = "database_unavailable", "The database cannot be reached. Please try again."


class SchemaBehind(DatabaseUnavailable):
    """The database has yet to be migrated to what this code needs."""

    code, message = "schema_behind", "The database is not up to date yet. Please try again."


class Vanished(Unavailable):
    """A row that this was to refer to was deleted in the same moment: asked again, it is said what is missing."""

    code, message = "vanished", "Something that this needs was deleted a moment ago. Please try again."

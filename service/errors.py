"""Exceptions with an HTTP status and code, and their RFC 9457 problem documents.

All exceptions that leave a route pass through the handlers of this module. The details come from here or from the
``ServiceError`` that was raised; messages of other exceptions never reach a client. The routes of the Open Inference
Protocol answer with its error object instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:  # a worker that decodes one image raises these exceptions and needs no web framework
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.types import Scope

PROBLEM_JSON = "application/problem+json"
INFERENCE_PATH = "/v2/models/"  # beginning of the routes of the Open Inference Protocol


class ServiceError(Exception):
    """Base class: an HTTP status, a stable code for programs, a ``detail`` for people.

    ``retry_after`` is in seconds; the ``Retry-After`` header carries it rounded up.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class InternalError(ServiceError):
    """An unexpected error; the answer reveals only the request id."""

    def __init__(
        self,
        detail: str = "Internal error; the server log has the details under this request id.",
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after)


class BadRequest(ServiceError):
    """Malformed multipart, JSON or base64, no image, or more than one input."""

    status = 400
    code = "bad_request"


class EmptyFile(BadRequest):
    """An image of zero bytes."""

    code = "empty_file"


class Unauthorized(ServiceError):
    """Missing or invalid API key."""

    status = 401
    code = "unauthorized"


class NotAcceptable(ServiceError):
    """No available format matches the ``Accept`` header."""

    status = 406
    code = "not_acceptable"


class UploadTimeout(ServiceError):
    """The request body did not arrive in time."""

    status = 408
    code = "upload_timeout"


class BodyTooLarge(ServiceError):
    """The request body exceeds the size limit."""

    status = 413
    code = "body_too_large"


class TooManyFiles(ServiceError):
    """The request has more files than the limit."""

    status = 413
    code = "too_many_files"


class ImageError(ServiceError):
    """Base class: one image cannot be read."""

    status = 422


class UnsupportedImage(ImageError):
    """The signature is not that of a supported image format."""

    status = 415
    code = "unsupported_image"


class Undecodable(ImageError):
    """A supported format, but corrupt or truncated."""

    code = "undecodable"


class ImageTooLarge(ImageError):
    """Pixels, side length, aspect ratio or the work of decoding exceed the limit."""

    code = "image_too_large"


class ImageTooSmall(ImageError):
    """A side is shorter than the minimum."""

    code = "image_too_small"


class Animated(ImageError):
    """Several frames or pages where one image is expected."""

    code = "animated"


class InvalidOption(ServiceError):
    """Unknown option, or a value that is not allowed."""

    status = 422
    code = "invalid_option"


class RateLimited(ServiceError):
    """The client exceeds its rate limit."""

    status = 429
    code = "rate_limited"


class Unavailable(ServiceError):
    """Base class: temporarily unable to accept requests; a retry may succeed."""

    status = 503


class QueueFull(Unavailable):
    """Admission rejected: the queue is full or the deadline cannot be met."""

    code = "queue_full"


class NotReady(Unavailable):
    """The model is loading or has failed."""

    code = "not_ready"


class Draining(Unavailable):
    """Shutting down: admitted requests finish, new ones are rejected."""

    code = "draining"


class DeadlineExceeded(ServiceError):
    """The deadline of the request has passed."""

    status = 504
    code = "deadline_exceeded"


_STARLETTE_CODES = {
    404: ("not_found", "No such route; /docs lists the routes."),
    405: ("method_not_allowed", "This route does not support the method; the Allow header lists those it supports."),
}


_NO_SUCH_MODEL = "No such model, version or route; GET /v2/models/linewise describes the model."


def request_id_of(scope: Scope) -> str:
    """Return the request id; empty outside a request."""
    state = scope.get("state")
    return str(state.get("request_id", "")) if isinstance(state, Mapping) else ""


def note_problem(scope: Scope, code: str) -> None:
    """Record a problem code for the access log and the metrics of this request."""
    scope.setdefault("state", {}).setdefault("problems", []).append(code)


def problem(error: ServiceError, request_id: str = "") -> dict[str, object]:
    """Return the problem document of an error as a JSON-ready dictionary."""
    return _document(error.status, error.code, error.detail, request_id)


def problem_response(error: ServiceError, scope: Scope) -> Response:
    """Build the HTTP response for an error and record its code."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(scope, error.status, error.code, error.detail, headers)


def install_handlers(app: FastAPI) -> None:
    """Register the exception handlers of the application."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    for kind in (ServiceError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import Response

    scope = request.scope
    if isinstance(error, ServiceError):
        return problem_response(error, scope)
    if isinstance(error, RequestValidationError):
        return _answer(scope, InvalidOption.status, InvalidOption.code, _describe(error.errors()))
    if isinstance(error, HTTPException):
        code, detail = _STARLETTE_CODES.get(error.status_code, ("bad_request", "Malformed request."))
        return _answer(scope, error.status_code, code, detail, error.headers)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # for the access log only: the client is gone
    raise error


def _answer(
    scope: Scope, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    from starlette.responses import JSONResponse

    note_problem(scope, code)
    if scope["path"].startswith(INFERENCE_PATH):
        return JSONResponse({"error": _NO_SUCH_MODEL if code == "not_found" else detail}, status, headers)
    document = _document(status, code, detail, request_id_of(scope))
    return JSONResponse(document, status, headers, media_type=PROBLEM_JSON)


def _document(status: int, code: str, detail: str, request_id: str) -> dict[str, object]:
    document: dict[str, object] = {
        "type": "about:blank",  # RFC 9457 section 4.2.1: the title is then the status phrase
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if request_id:
        document["request_id"] = request_id
    return document


def _describe(errors: Sequence[Mapping[str, object]]) -> str:
    """Describe each invalid field, without the values sent."""
    descriptions = []
    for error in errors:
        location = error.get("loc", ())
        field = ".".join(str(part) for part in location) if isinstance(location, tuple) else ""
        descriptions.append(f"{field}: {error.get('msg', 'not valid')}")
    return "; ".join(descriptions)

"""Everything that can go wrong, as exceptions that know their HTTP answer.

One tree, one handler: whatever reaches the edge of the application becomes an RFC 9457 problem document. The texts are
written here and where the errors are raised; the text of a foreign exception never reaches a client.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("linewise.service")

PROBLEM_JSON = "application/problem+json"


class ServiceError(Exception):
    """A failure with a status, a stable code for programs and a sentence for people.

    ``retry_after`` is in seconds and is sent, rounded up, as the ``Retry-After`` header.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class InternalError(ServiceError):
    """A bug on our side; the client learns the request id only."""


class BadRequest(ServiceError):
    """The request cannot be taken apart: broken multipart, JSON or base64, no input, or two inputs."""

    status = 400
    code = "bad_request"


class EmptyFile(BadRequest):
    """An image of zero bytes."""

    code = "empty_file"


class Unauthorized(ServiceError):
    """No API key, or a wrong one."""

    status = 401
    code = "unauthorized"


class NotAcceptable(ServiceError):
    """The answer cannot be had in the form that was asked for."""

    status = 406
    code = "not_acceptable"


class UploadTimeout(ServiceError):
    """The body did not arrive in time."""

    status = 408
    code = "upload_timeout"


class BodyTooLarge(ServiceError):
    """More bytes than the service takes in one request."""

    status = 413
    code = "body_too_large"


class TooManyFiles(ServiceError):
    """More files than the service takes in one request."""

    status = 413
    code = "too_many_files"


class ImageError(ServiceError):
    """The bytes of one image are of no use to us."""

    status = 422


class UnsupportedImage(ImageError):
    """The first bytes are not those of a format we read."""

    status = 415
    code = "unsupported_image"


class Undecodable(ImageError):
    """The right format, but corrupt or cut short."""

    code = "undecodable"


class ImageTooLarge(ImageError):
    """Too many pixels, too long a side, or too extreme a shape."""

    code = "image_too_large"


class ImageTooSmall(ImageError):
    """Fewer pixels on a side than a letter needs."""

    code = "image_too_small"


class Animated(ImageError):
    """Several frames or pages where one line of text is expected."""

    code = "animated"


class InvalidOption(ServiceError):
    """An option has a value that is not allowed."""

    status = 422
    code = "invalid_option"


class RateLimited(ServiceError):
    """This client asks more often than it may."""

    status = 429
    code = "rate_limited"


class Unavailable(ServiceError):
    """The service cannot take this request now; a later try may succeed."""

    status = 503


class QueueFull(Unavailable):
    """More is waiting than can be answered in time."""

    code = "queue_full"


class NotReady(Unavailable):
    """Still starting, or the model failed."""

    code = "not_ready"


class Draining(Unavailable):
    """Shutting down: what was admitted is finished, nothing new is taken."""

    code = "draining"


class DeadlineExceeded(ServiceError):
    """The answer would have come, or came, after the request's deadline."""

    status = 504
    code = "deadline_exceeded"


_STARLETTE_CODES = {
    404: ("not_found", "There is nothing at this address; /docs lists what there is."),
    405: ("method_not_allowed", "This address does not take that method; the Allow header says which it takes."),
}


def request_id_of(scope: Scope) -> str:
    """The id given to this request, or an empty string outside a request."""
    state = scope.get("state")
    return str(state.get("request_id", "")) if isinstance(state, Mapping) else ""


def note_problem(scope: Scope, code: str) -> None:
    """Leave a problem's code where the log and the metrics of this request find it."""
    scope.setdefault("state", {}).setdefault("problems", []).append(code)


def problem(error: ServiceError, request_id: str = "") -> dict[str, object]:
    """The problem document of an error as a JSON-ready mapping."""
    return _document(error.status, error.code, error.detail, request_id)


def problem_response(error: ServiceError, scope: Scope) -> Response:
    """The complete HTTP answer for an error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(scope, error.status, error.code, error.detail, headers)


def install_handlers(app: FastAPI) -> None:
    """Route every exception that leaves a handler through this module."""
    for kind in (ServiceError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, _handle)


class ServerErrorMiddleware:
    """Answer 500 with the request id for whatever nobody caught, and put the rest into the log.

    Starlette's own last resort sits outside of all middleware, where its answer would miss the usual headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            log.error("unexpected error, request %s", request_id_of(scope), exc_info=error)
            answer = problem_response(InternalError("An error on our side; the request id finds it in the log."), scope)
            await answer(scope, receive, send)


async def _handle(request: Request, error: Exception) -> Response:
    scope = request.scope
    if isinstance(error, ServiceError):
        return problem_response(error, scope)
    if isinstance(error, RequestValidationError):
        return _answer(scope, InvalidOption.status, InvalidOption.code, _describe(error.errors()))
    if isinstance(error, HTTPException):
        code, detail = _STARLETTE_CODES.get(error.status_code, ("bad_request", "The request is not understood."))
        return _answer(scope, error.status_code, code, detail, error.headers)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # nobody is there to read it; the status is for the log
    raise error


def _answer(
    scope: Scope, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    note_problem(scope, code)
    document = _document(status, code, detail, request_id_of(scope))
    return JSONResponse(document, status, headers, media_type=PROBLEM_JSON)


def _document(status: int, code: str, detail: str, request_id: str) -> dict[str, object]:
    document: dict[str, object] = {
        "type": "about:blank",  # RFC 9457 4.2.1: the title is the status phrase, `code` says more
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if request_id:
        document["request_id"] = request_id
    return document


def _describe(errors: Sequence[Mapping[str, object]]) -> str:
    """One sentence per wrong field, without the values that were sent."""
    sentences = []
    for error in errors:
        location = error.get("loc", ())
        where = ".".join(str(part) for part in location) if isinstance(location, tuple) else ""
        sentences.append(f"{where}: {error.get('msg', 'not valid')}")
    return "; ".join(sentences)

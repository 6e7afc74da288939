"""Unhandled exceptions as 500 problem documents."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linewise.service.errors import InternalError, problem_response, request_id_of

log = logging.getLogger("linewise.service")


class ServerErrorMiddleware:
    """Log unhandled exceptions and answer 500 with the request id.

    Starlette's own handler runs outside all middleware, so its answer would lack the common headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        response_started = False

        async def track_start(message: Message) -> None:
            nonlocal response_started
            response_started = response_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, track_start)
        except Exception as error:
            if scope["type"] != "http" or response_started:
                raise
            log.error("unexpected error, request %s", request_id_of(scope), exc_info=error)
            await problem_response(InternalError(), scope)(scope, receive, send)

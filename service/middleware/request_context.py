"""Request ids, common response headers, access log and request metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linewise.service.metrics import Metrics

log = logging.getLogger("linewise.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class RequestContextMiddleware:
    """Outermost middleware: assign the request id, add headers, log and count the request.

    A valid ``X-Request-ID`` is kept, otherwise an id is generated. This layer handles neither text nor image bytes, so
    it cannot log them.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        supplied_id = headers.get("x-request-id", "")
        request_id = supplied_id if _REQUEST_ID.fullmatch(supplied_id) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                response_headers = MutableHeaders(scope=message)
                response_headers["X-Request-ID"] = request_id
                response_headers.setdefault("Cache-Control", "no-store")
                for name, value in _SECURITY_HEADERS.items():
                    response_headers[name] = value
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self._record(scope, headers, request_id, status or 499, time.perf_counter() - started)

    def _record(self, scope: Scope, headers: Headers, request_id: str, status: int, seconds: float) -> None:
        state: Mapping[str, Any] = scope["state"]
        route = getattr(scope.get("route"), "path", state.get("route", "unmatched"))
        method = scope["method"] if scope["method"] in _METHODS else "other"  # clients must not create metric labels
        self.metrics.request(method, route, status, seconds)
        for code in state.get("problems", ()):
            self.metrics.problem(code)
        client = scope.get("client")
        log.info(
            "request",
            extra={
                "request_id": request_id,
                "method": method,
                "route": route,
                "status": status,
                "problems": list(state.get("problems", ())),
                "images": state.get("images", 0),
                "bytes_in": int(length) if (length := headers.get("content-length", "")).isdecimal() else None,
                "milliseconds": round(seconds * 1000.0, 2),
                "client": client[0] if client else None,
            },
        )

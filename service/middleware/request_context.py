"""Request ids, the headers that every answer carries, and one log line and one count per request."""

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
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class RequestContextMiddleware:
    """The outermost layer: gives every request an id, taken from ``X-Request-ID`` if that is well formed.

    Neither the text that was read nor the bytes of an image ever get here, so they cannot be logged.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        offered = headers.get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-ID"] = request_id
                answer.setdefault("Cache-Control", "no-store")
                for name, value in _HEADERS.items():
                    answer[name] = value
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self._record(scope, headers, request_id, status or 499, time.perf_counter() - started)

    def _record(self, scope: Scope, headers: Headers, request_id: str, status: int, seconds: float) -> None:
        state: Mapping[str, Any] = scope["state"]
        route = getattr(scope.get("route"), "path", state.get("route", "unmatched"))
        method = scope["method"] if scope["method"] in _METHODS else "other"  # a label that a client must not invent
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

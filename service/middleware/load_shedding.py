"""Load shedding: reject requests before routing when the queue cannot meet their deadline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from linewise.service.errors import QueueFull, ServiceError, problem_response
from linewise.service.middleware.auth import KeyRing, claimed_client


class LoadSheddingMiddleware:
    """Answer 503 before parsing, when the engine would reject the request.

    Under heavy overload, parsing rejected requests would take the time that admitted requests need. ``timeouts`` maps
    each path with recognition work to its default timeout, in seconds; ``max_timeout`` caps ``X-Request-Timeout``.
    ``check`` takes a deadline on the ``time.monotonic`` clock and a client, which is the one that the request claims to
    come from. It raises ``QueueFull`` if that client's next request would wait for too long.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        check: Callable[[float, str], None],
        keys: KeyRing,
        timeouts: Mapping[str, float],
        max_timeout: float,
    ) -> None:
        self.app = app
        self.check = check
        self.keys = keys
        self.timeouts = timeouts
        self.max_timeout = max_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        timeout = self.timeouts.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if timeout is not None:
            try:
                deadline = time.monotonic() + min(_requested_timeout(scope) or timeout, self.max_timeout)
                self.check(deadline, claimed_client(scope, self.keys))
            except QueueFull as error:
                scope["state"]["route"] = scope["path"]  # the router, which would set it, does not run
                await problem_response(error, scope)(scope, receive, send)
                return
            except ServiceError:
                pass  # not about load: the route reports it after authentication
        await self.app(scope, receive, send)


def _requested_timeout(scope: Scope) -> float | None:
    """Return ``X-Request-Timeout`` in seconds; None if missing or invalid, which the route reports."""
    try:
        seconds = float(Headers(scope=scope).get("x-request-timeout", ""))
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None

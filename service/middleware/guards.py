"""Pure ASGI guards around the application: how much a client may send, how slowly, and when it is too much at all."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linewise.service.errors import BodyTooLarge, QueueFull, ServiceError, UploadTimeout, problem_response

DRAIN = 1.0  # seconds for the rest of a body that nobody wants any more


class LoadSheddingMiddleware:
    """Refuse at the door what the engine would refuse anyway for want of time or room.

    When many times more is asked than can be done, taking requests apart would leave no time for those that were
    admitted. ``timeouts`` are the paths that bring work, with the seconds that their requests have by default;
    ``check`` raises ``QueueFull`` for a deadline, of ``time.monotonic``, that cannot be kept.
    """

    def __init__(
        self, app: ASGIApp, *, check: Callable[[float], None], timeouts: Mapping[str, float], max_timeout: float
    ) -> None:
        self.app = app
        self.check = check
        self.timeouts = timeouts
        self.max_timeout = max_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout = self.timeouts.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if timeout is not None:
            try:
                self.check(time.monotonic() + min(self._wanted(scope) or timeout, self.max_timeout))
            except QueueFull as error:
                scope["state"]["route"] = scope["path"]  # which no router will find out any more
                await problem_response(error, scope)(scope, receive, send)
                return
            except ServiceError:
                pass  # not for want of time; who asks is to be told by the route
        await self.app(scope, receive, send)

    @staticmethod
    def _wanted(scope: Scope) -> float | None:
        """The seconds in X-Request-Timeout, None where they are of no use, which the route will print_error about."""
        try:
            seconds = float(Headers(scope=scope).get("x-request-timeout", ""))
        except ValueError:
            return None
        return seconds if 0 < seconds < math.inf else None


class BodyLimitMiddleware:
    """Hold every request body to ``max_bytes`` bytes, or those of its path in ``exceptions``, and ``timeout`` seconds.

    All bodies that are being received or worked on are held to ``max_total`` bytes together; who comes on top of that
    is told to come back later. A ``Content-Length`` over the limit is answered at once and its body is never asked for;
    a body without one is counted as it arrives. The error is raised where the application reads the body, so that it is
    answered like any other.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total: int,
        timeout: float,
        exceptions: Mapping[str, int] | None = None,
    ) -> None:
        self.app = app
        self.max_total = max_total
        self.held = 0
        self.max_bytes = max_bytes
        self.exceptions = exceptions or {}
        self.timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.exceptions.get(scope["path"], self.max_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await problem_response(_too_large(limit), scope)(scope, receive, send)
            return
        body = _Body(self, receive, limit)
        waits = "expect" in Headers(scope=scope)  # with its body, until it is asked for it

        async def send_when_all_has_come(message: Message) -> None:
            if message["type"] == "http.response.start" and not waits:
                await body.drain()
            await send(message)

        try:
            await self.app(scope, body.receive, send_when_all_has_come)
        finally:
            self.held -= body.received


class _Body:
    """The body of one request on its way in."""

    def __init__(self, guard: BodyLimitMiddleware, receive: Receive, limit: int) -> None:
        self.received = 0
        self._guard = guard
        self._receive = receive
        self._limit = limit
        self._deadline = asyncio.get_running_loop().time() + guard.timeout
        self._failure: ServiceError | None = None
        self._complete = False

    async def drain(self) -> None:
        """Take in what an early answer left unread, for a moment.

        A connection that is closed while bytes still arrive is reset, and the client may never see why.
        """
        with contextlib.suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(DRAIN):
                while not self._complete and self._failure is None:
                    if (await self.receive())["type"] == "http.disconnect":
                        return

    async def receive(self) -> Message:
        """The next message. Raises ``BodyTooLarge``, ``QueueFull``, ``UploadTimeout``."""
        if self._failure is not None:  # asked again after the refusal: the answer stays the same
            raise self._failure
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._failure = UploadTimeout(f"The request body did not arrive within {self._guard.timeout:g} seconds.")
            raise self._failure from None
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            if not message.get("more_body", False):
                self._complete = True
                self._deadline = math.inf  # what may still come is the disconnect, and that has no deadline
        return message

    def _count(self, size: int) -> None:
        self.received += size
        self._guard.held += size
        if self.received > self._limit:
            self._failure = _too_large(self._limit)
        elif self._guard.held > self._guard.max_total:
            self._failure = QueueFull("Too many bytes are being received; try again soon.", retry_after=1.0)
        if self._failure is not None:
            raise self._failure


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")

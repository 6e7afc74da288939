"""Limits on the size and duration of request bodies."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linewise.service.errors import BodyTooLarge, QueueFull, ServiceError, UploadTimeout, problem_response

DRAIN_TIMEOUT_S = 1.0  # for the unread rest of a body after an early answer

# Large bodies leave a share of the total to small ones, so that a few that stall do not lock out single lines.
SMALL_BODY_BYTES = 2**20
SHARE_OF_SMALL_BODIES = 1 / 8


class BodyLimitMiddleware:
    """Reject request bodies that are too large or arrive too slowly.

    Each body may have ``max_bytes`` bytes, or the limit of its path in ``path_limits``, and must arrive within
    ``timeout`` seconds. All bodies being received or processed may have ``max_total_bytes`` bytes together, a little
    less for bodies that are not small; beyond that, requests get 503. A ``Content-Length`` over the limit is rejected
    without reading the body; a body without that header is counted as it arrives. ``body_received`` of the request's
    state is the time of the last byte on the ``time.monotonic`` clock; ``release_body`` of the state ends the
    processing of the body before the answer is sent. Errors are raised where the application reads the body, so the
    usual error handlers answer them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total_bytes: int,
        timeout: float,
        path_limits: Mapping[str, int] | None = None,
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_total_bytes = max_total_bytes
        self.timeout = timeout
        self.path_limits = path_limits or {}
        self.bytes_in_flight = 0
        largest = max([max_bytes, *self.path_limits.values()])  # fits while nothing else is there
        self.max_total_bytes_of_large = max(largest, int((1 - SHARE_OF_SMALL_BODIES) * max_total_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self.path_limits.get(scope["path"], self.max_bytes)
        content_length = Headers(scope=scope).get("content-length", "")
        if content_length.isdecimal() and int(content_length) > limit:
            await problem_response(_body_too_large(limit), scope)(scope, receive, send)
            return
        body = _LimitedBody(self, scope, receive, limit)
        expects_continue = "expect" in Headers(scope=scope)  # such a client sends no body after an early answer

        async def drain_then_send(message: Message) -> None:
            if message["type"] == "http.response.start" and not expects_continue:
                await body.drain()
            await send(message)

        try:
            await self.app(scope, body.receive, drain_then_send)
        finally:
            body.release()


class _LimitedBody:
    """The receiving side of one request, with the limits applied."""

    def __init__(self, limits: BodyLimitMiddleware, scope: Scope, receive: Receive, max_bytes: int) -> None:
        self.received_bytes = 0
        self._counted_bytes = 0
        self._scope = scope
        self._limits = limits
        self._receive = receive
        self._max_bytes = max_bytes
        self._deadline = asyncio.get_running_loop().time() + limits.timeout
        self._failure: ServiceError | None = None
        self._complete = False

    def release(self) -> None:
        """Stop counting the bytes that have arrived."""
        self._limits.bytes_in_flight -= self._counted_bytes
        self._counted_bytes = 0

    async def drain(self) -> None:
        """Read the rest of the body for at most ``DRAIN_TIMEOUT_S``.

        Closing a connection while bytes still arrive resets it, and the client may never see the answer.
        """
        with contextlib.suppress(TimeoutError, ServiceError):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while not self._complete and self._failure is None:
                    if (await self.receive())["type"] == "http.disconnect":
                        return

    async def receive(self) -> Message:
        """Receive the next message. Raises ``BodyTooLarge``, ``QueueFull``, ``UploadTimeout``."""
        if self._failure is not None:  # later calls repeat the failure
            raise self._failure
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._failure = UploadTimeout(f"The request body did not arrive within {self._limits.timeout:g} seconds.")
            raise self._failure from None
        if message["type"] == "http.request":
            self._count(len(message.get("body", b"")))
            if not message.get("more_body", False):
                self._complete = True
                self._scope.setdefault("state", {}).update(body_received=time.monotonic(), release_body=self.release)
                self._deadline = math.inf  # only the disconnect can follow, which has no deadline
        return message

    def _count(self, size: int) -> None:
        self.received_bytes += size
        self._counted_bytes += size
        self._limits.bytes_in_flight += size
        is_small = self.received_bytes <= SMALL_BODY_BYTES
        max_total = self._limits.max_total_bytes if is_small else self._limits.max_total_bytes_of_large
        if self.received_bytes > self._max_bytes:
            self._failure = _body_too_large(self._max_bytes)
        elif self._limits.bytes_in_flight > max_total:
            self._failure = QueueFull("Too many bytes are being received; retry later.", retry_after=1.0)
        if self._failure is not None:
            raise self._failure


def _body_too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than the limit of {max_bytes} bytes.")

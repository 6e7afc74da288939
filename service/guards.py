"""Pure ASGI guards around the application: how much a client may send, and how slowly."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import BodyTooLarge, ServiceError, UploadTimeout, problem_response


class BodyGuard:
    """Hold every request body to ``max_bytes`` bytes, or those of its path in ``exceptions``, and ``timeout`` seconds.

    A ``Content-Length`` over the limit is answered at once and its body is never asked for; a body without one is
    counted as it arrives. The error is raised where the application reads the body, so that it is answered like any
    other.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, timeout: float, exceptions: Mapping[str, int] | None = None
    ) -> None:
        self.app = app
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
        await self.app(scope, self._guarded(receive, limit), send)

    def _guarded(self, receive: Receive, limit: int) -> Receive:
        received = 0
        deadline = asyncio.get_running_loop().time() + self.timeout
        failure: ServiceError | None = None

        async def guarded() -> Message:
            nonlocal received, deadline, failure
            if failure is not None:  # asked again after the refusal: the answer stays the same
                raise failure
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                failure = UploadTimeout(f"The request body did not arrive within {self.timeout:g} seconds.")
                raise failure from None
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    failure = _too_large(limit)
                    raise failure
                if not message.get("more_body", False):
                    deadline = math.inf  # what may still come is the disconnect, and that has no deadline
            return message

        return guarded


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit} bytes.")

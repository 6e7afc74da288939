"""Limits on request heads, which uvicorn lacks: size, time, and trailers without end."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 2**16  # of request line and headers, without those in the first packet
HEAD_TIMEOUT_S = 10.0  # for a complete head

_RESPONSE_431 = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n"
    b"cache-control: no-store\r\n\r\n"
)


class LimitedHttpProtocol(HttpToolsProtocol):
    """Close connections whose request head is too slow or too large, or whose trailers do not end.

    The application is called when the head is complete, so middleware cannot enforce these limits.
    """

    _bytes_without_progress = 0  # since the last complete head, body part or end of a request
    _progressed = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer for the first head."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._cancel_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes; close the connection after too many that complete no head and carry no body."""
        self._progressed = False
        super().data_received(data)
        self._bytes_without_progress = 0 if self._progressed else self._bytes_without_progress + len(data)
        if self._bytes_without_progress > MAX_HEAD_BYTES and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_RESPONSE_431)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Start the timer at the first byte of a request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Stop the timer; ``BodyLimitMiddleware`` limits the body."""
        self._progressed = True
        self._cancel_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Record progress: part of a body."""
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Record progress: the end of a request."""
        self._progressed = True
        super().on_message_complete()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.timeout_keep_alive_handler)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

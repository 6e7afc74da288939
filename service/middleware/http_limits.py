"""HTTP on a connection: uvicorn's, with the bounds on the head of a request that it has none of."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 2**16  # bytes of a request's line and headers, what came in the first packet not counted
HEAD_TIMEOUT = 10.0  # seconds in which they must have come; there is no reason to send them bit by bit

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n"
    b"cache-control: no-store\r\n\r\n"
)


class LimitedHttpProtocol(HttpToolsProtocol):
    """Closes connections whose requests do not begin in earnest, or whose headers or trailers do not end.

    The application hears of a request when its head is complete, too late to do anything about either.
    """

    _stalled = 0  # bytes since the last that brought the request on
    _moved = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there; it has so much time to say what it wants."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes; too many that neither end a head nor are a body end the connection."""
        self._moved = False
        super().data_received(data)
        self._stalled = 0 if self._moved else self._stalled + len(data)
        if self._stalled > MAX_HEAD and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The request has been announced; what follows is the application's to bound."""
        self._moved = True
        self._forget_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        self._moved = True
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self.timeout_keep_alive_handler)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

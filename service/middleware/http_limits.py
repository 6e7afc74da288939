"""What uvicorn lacks: limits on request heads, trailers and answers that nobody reads; bodies beside ``Upgrade``."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from linewise.service.middleware.unread_answers import UnreadAnswers

MAX_HEAD_BYTES = 2**16  # of request line and headers, without those in the first packet
HEAD_TIMEOUT_S = 10.0  # for a complete head

_RESPONSE_431 = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n"
    b"cache-control: no-store\r\n\r\n"
)


_HOP_TOKENS = {b"upgrade", b"http2-settings"}  # of ``Connection``, which only an upgrade needs


class _UpgradeIgnoringParser:
    """HTTP parser that reads a request with an unsupported ``Upgrade``, such as Java's ``h2c``, as one without.

    httptools ends such a request at its head and would lose the body. RFC 9110, section 7.8, lets a server ignore the
    field, so the head is parsed again without it, before the bytes that follow.
    """

    def __init__(self, protocol: LimitedHttpProtocol) -> None:
        self._protocol = protocol
        self._restart()

    def _restart(self) -> None:
        self._parser = httptools.HttpRequestParser(self._protocol)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> None:
        """Parse bytes. Raises ``HttpParserError``, and ``HttpParserUpgrade`` for a supported upgrade."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._protocol.ignores_upgrade:
                    raise
                head = self._head_without_upgrade()
                self._restart()
                data = head + data[upgrade.args[0] :]

    def _head_without_upgrade(self) -> bytes:
        version = self._parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self._parser.get_method(), self._protocol.url, version)]
        for name, value in self._protocol.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in _HOP_TOKENS)  # noqa: PLW2901
            if name not in _HOP_TOKENS and not (name == b"connection" and not value):
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"


class LimitedHttpProtocol(HttpToolsProtocol):
    """Close connections whose request head is too slow or too large, whose trailers do not end, or that do not read.

    The application is called when the head is complete, so middleware cannot enforce these limits.
    """

    unread_answers = UnreadAnswers()  # shared by all connections; ``limited_protocol`` replaces it

    _bytes_without_progress = 0  # since the last complete head, body part or end of a request
    _progressed = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer for the first head."""
        super().connection_made(transport)
        self.parser = cast(httptools.HttpRequestParser, _UpgradeIgnoringParser(self))
        transport.set_write_buffer_limits(high=0)  # pauses writing with the first byte that the client does not take
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._cancel_head_timer()
        self.unread_answers.remove(self.transport)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch an answer that the client does not read."""
        super().pause_writing()
        self.unread_answers.add(self.transport, self.client[0] if self.client else "")

    def resume_writing(self) -> None:
        """Forget an answer that is sent."""
        self.unread_answers.remove(self.transport)
        super().resume_writing()

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
        if self.ignores_upgrade:
            return  # the parser parses the head again
        self._progressed = True
        self._cancel_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Record progress: part of a body."""
        self._progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Record progress: the end of a request."""
        if self.ignores_upgrade:
            return
        self._progressed = True
        super().on_message_complete()

    @property
    def ignores_upgrade(self) -> bool:
        """Whether the head asks for an upgrade that is not supported; CONNECT, which also ends there, does not."""
        return bool(self.parser.should_upgrade() and self._get_upgrade() and not self._should_upgrade())

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.timeout_keep_alive_handler)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def limited_protocol(write_timeout: float, max_unsent_bytes: int) -> type[LimitedHttpProtocol]:
    """Return the protocol with limits on answers that are not read; see ``UnreadAnswers``."""
    unread = UnreadAnswers(write_timeout, max_unsent_bytes)
    return type("LimitedHttpProtocol", (LimitedHttpProtocol,), {"unread_answers": unread})

"""Clients that do not read their answers: their connections are closed, the others are not."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from linewise.service.middleware import unread_answers
from linewise.service.middleware.http_limits import limited_protocol
from linewise.service.server import server_config
from linewise.service.settings import Settings
from tests.service.conftest import serving

ANSWER_BYTES = 32 * 2**20  # more than the buffers of both ends hold
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class State:
    """Stands for the state of an application with an engine."""

    def __init__(self) -> None:
        self.engine = self
        self.ready = True


class Application:
    """Answers each request with many bytes at once."""

    def __init__(self) -> None:
        self.state = State()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"content-length", b"%d" % ANSWER_BYTES)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(ANSWER_BYTES)})


Serve = Callable[[float, int], AbstractContextManager[int]]


@pytest.fixture
def serve_large(monkeypatch: pytest.MonkeyPatch) -> Serve:
    monkeypatch.setattr(unread_answers, "CHECK_PERIOD_S", 0.1)

    def run(timeout: float, max_bytes: int) -> AbstractContextManager[int]:
        app = Application()
        config = uvicorn.Config(app, log_config=None, http=limited_protocol(timeout, max_bytes), lifespan="off")
        return serving(app, config)  # type: ignore[arg-type]

    return run


def connect(port: int, buffer: int = 4096) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    connection.sendall(GET)
    return connection


def received(connection: socket.socket) -> int:
    """Read to the end of the answer, or until the connection is closed."""
    size = 0
    try:
        while size < ANSWER_BYTES and (data := connection.recv(2**20)):
            size += len(data)
    except ConnectionResetError:
        pass
    return size


def until_logged(caplog: pytest.LogCaptureFixture, times: int) -> list[logging.LogRecord]:
    deadline = time.monotonic() + 60
    while True:
        records = [record for record in caplog.records if "read nothing of its answer" in record.message]
        if len(records) >= times:
            return records
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_reads_nothing_is_disconnected(serve_large: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve_large(0.5, 2**30) as port, connect(port) as connection:
        (record,) = until_logged(caplog, 1)
        assert "bytes were unsent" in record.message and vars(record)["client"] == "127.0.0.1"
        assert received(connection) < ANSWER_BYTES


def test_a_client_that_reads_slowly_gets_all(serve_large: Serve) -> None:
    with serve_large(2.0, 2**30) as port, connect(port, 2**17) as connection:
        size, started = 0, time.monotonic()
        while time.monotonic() < started + 6:  # several times the limit
            size += len(connection.recv(2**14))
            time.sleep(0.02)
        assert size < ANSWER_BYTES / 2
        assert size + received(connection) >= ANSWER_BYTES


def test_in_sum_unread_answers_are_bounded_and_readers_go_on(
    serve_large: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with serve_large(600.0, 2 * ANSWER_BYTES) as port:
        stalled = [connect(port) for _ in range(8)]
        assert len(until_logged(caplog, 5)) >= 5
        with connect(port) as connection:
            assert received(connection) >= ANSWER_BYTES
        for each in stalled:
            each.close()


def test_the_settings_reach_the_server() -> None:
    settings = Settings(write_timeout=7, max_unsent_bytes=1000)
    config = server_config(Application(), settings)  # type: ignore[arg-type]
    unread = config.http.unread_answers  # type: ignore[union-attr]
    assert (unread.timeout, unread.max_bytes) == (7, 1000)

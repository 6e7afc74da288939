"""Requests that no HTTP library sends: endless heads and trailers, false lengths, a thousand parts."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator

import httpx2
import pytest

from linewise.service.app import create_app
from linewise.service.middleware import http_limits
from linewise.service.settings import Settings
from tests.service.conftest import FakePages, FakeReader, draw_line, encode, serving

POST = b"POST /recognize HTTP/1.1\r\nHost: x\r\n"
TIMEOUT_S = 60  # far more than anything here takes
ENDLESS_BYTES = 64 * 2**20  # more than socket buffers hold


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Port of a service that all tests of this module abuse in turn."""
    with serving(create_app(Settings(threads=1), FakeReader(), FakePages())) as number:
        yield number


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)


def receive_all(connection: socket.socket) -> bytes:
    """Receive until the server closes; a reset counts as a close."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def statuses(received: bytes) -> list[int]:
    return [int(answer[:3]) for answer in received.split(b"HTTP/1.1 ")[1:]]


def assert_serving(port: int, picture: bytes) -> None:
    assert httpx2.post(f"http://127.0.0.1:{port}/recognize", content=picture, timeout=TIMEOUT_S).status_code == 200


def send_endlessly(connection: socket.socket, start: bytes, rest: Iterator[bytes]) -> None:
    connection.sendall(start)
    sent = 0
    while sent < ENDLESS_BYTES:
        piece = next(rest)
        connection.sendall(piece)
        sent += len(piece)


def trickle_headers(connection: socket.socket) -> None:
    connection.sendall(POST)
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        connection.sendall(b"X-A: b\r\n")
        time.sleep(0.02)


def numbered_headers() -> Iterator[bytes]:
    for number in itertools.count():
        yield b"".join(b"X-%d: %d\r\n" % (number, value) for value in range(5000))


@pytest.mark.parametrize(
    ("start", "rest"),
    [
        (POST, numbered_headers()),
        (POST + b"X-Long: ", itertools.repeat(bytes([97]) * 2**16)),
        (b"GET /", itertools.repeat(bytes([97]) * 2**16)),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", numbered_headers()),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", itertools.repeat(bytes([97]) * 2**16)),
    ],
    ids=["headers", "header", "address", "trailers", "chunk extension"],
)
def test_an_endless_head_or_trailer_closes_the_connection(
    port: int, picture: bytes, start: bytes, rest: Iterator[bytes]
) -> None:
    with connect(port) as connection, pytest.raises(ConnectionError):
        send_endlessly(connection, start, rest)
    assert_serving(port, picture)


@pytest.mark.parametrize(
    ("size", "status"), [(http_limits.MAX_HEAD_BYTES // 2, 200), (2 * http_limits.MAX_HEAD_BYTES, 431)]
)
def test_a_large_head_is_accepted_and_a_larger_one_gets_431(port: int, picture: bytes, size: int, status: int) -> None:
    with connect(port) as connection:
        connection.sendall(POST)  # in a packet of its own
        time.sleep(0.05)
        connection.sendall(b"X-Long: " + b"a" * size)
        if status == 200:
            time.sleep(0.05)
            connection.sendall(b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture)
        assert statuses(receive_all(connection)) == [status]


@pytest.mark.parametrize(
    "sent", [b"", b"P", POST + b"X-A: ", b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\nGET /heal"]
)
def test_an_incomplete_head_times_out(port: int, picture: bytes, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_S", 0.3)
    with connect(port) as connection:
        connection.sendall(sent)
        assert_serving(port, picture)
        assert statuses(receive_all(connection)) in ([], [200])


def test_an_incomplete_second_head_times_out_too(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_S", 0.3)
    with connect(port) as connection:
        connection.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert statuses(connection.recv(65536)) == [200]
        connection.sendall(b"GET /heal")  # which stops the keep-alive timer
        assert receive_all(connection).count(b"HTTP/1.1") == 0


def test_a_head_that_trickles_in_times_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_S", 0.3)
    with connect(port) as connection, pytest.raises(ConnectionError):
        trickle_headers(connection)


def test_a_body_may_take_longer_than_a_head(port: int, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT_S", 0.1)
    with connect(port) as connection:
        connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(picture))
        for start in range(0, len(picture), 1 + len(picture) // 5):
            time.sleep(0.1)
            connection.sendall(picture[start : start + 1 + len(picture) // 5])
        assert statuses(receive_all(connection)) == [200]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (POST + b"Content-Length: abc\r\n\r\nabc", [400]),
        (POST + b"Content-Length: -1\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 9999999999999999\r\nConnection: close\r\n\r\nabc", [413]),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", [400]),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [400]),
        # two requests: the invalid second one replaces the answer to the first
        (POST + b"Content-Length: 3\r\n\r\nabcNO SUCH METHOD\r\n\r\n", [400]),
        (POST + b"Transfer-Encoding: gzip, nonsense\r\n\r\nabc", [400]),
        (POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [415]),
        (POST + b"Content-Length: 0\r\nConnection: close\r\n\r\n", [400]),
        (b"\x00\x01\x02\x03\r\n\r\n", [400]),
        (b"GET " + b"\xff" * 20 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),  # the beginning of TLS
    ],
)
def test_false_lengths_and_malformed_heads(port: int, picture: bytes, request_: bytes, expected: list[int]) -> None:
    with connect(port) as connection:
        connection.sendall(request_)
        assert statuses(receive_all(connection)) == expected
    assert_serving(port, picture)


@pytest.mark.parametrize(
    "request_", [POST + b"Content-Length: 100\r\n\r\nabc", POST + b"Transfer-Encoding: chunked\r\n\r\n64\r\nabc"]
)
def test_a_truncated_body_ends_its_request(port: int, picture: bytes, request_: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection) == b""
    assert_serving(port, picture)


def part(name: str, filename: str | None, data: bytes, headers: bytes = b"") -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return (
        f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'.encode() + headers + b"\r\n" + data + b"\r\n"
    )


@pytest.mark.parametrize(
    ("path", "parts", "status", "code"),
    [
        ("/recognize", part("file", "a", b"x") * 1000, 400, "bad_request"),
        ("/recognize/batch", part("files", "a", b"x") * 1000, 413, "too_many_files"),
        ("/recognize", b"".join(part(f"f{number}", None, b"x") for number in range(1000)), 400, "bad_request"),
        ("/recognize/batch", part("charset", None, b"x") * 1000, 400, "bad_request"),
        ("/recognize", part("file", "a", b"x", b"X-A: b\r\n" * 1000), 400, "bad_request"),
        ("/recognize", part("file", "a", b"x", b"X-A: " + b"b" * 10**6 + b"\r\n"), 400, "bad_request"),
        ("/recognize", part("file", "a" * 10**6, b"x"), 400, "bad_request"),
    ],
)
def test_a_thousand_parts_are_refused(
    port: int, picture: bytes, path: str, parts: bytes, status: int, code: str
) -> None:
    headers = {"content-type": "multipart/form-data; boundary=B"}
    url = f"http://127.0.0.1:{port}{path}"
    response = httpx2.post(url, content=parts + b"--B--\r\n", headers=headers, timeout=TIMEOUT_S)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert_serving(port, picture)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("step", [1, 7, 2**20])
def test_a_body_beside_an_unsupported_upgrade_is_read(port: int, step: int, chunked: bool) -> None:
    body = encode(draw_line())
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    # as the HttpClient of Java sends it
    upgrade = b"Connection: Upgrade, HTTP2-Settings%s\r\nHTTP2-Settings: AAEAAEAA\r\nUpgrade: h2c\r\n"
    head = POST + b"Content-Type: image/png\r\n" + length + b"\r\n"
    requests = head + upgrade % b"" + b"\r\n" + sent + head + upgrade % b", close" + b"\r\n" + sent
    with connect(port) as connection:
        for start in range(0, len(requests), step):
            connection.sendall(requests[start : start + step])
        answers = receive_all(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b'"format":"PNG"') == 2

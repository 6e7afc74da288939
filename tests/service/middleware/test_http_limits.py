"""What no HTTP library would send: heads and trailers without end, lengths that lie, a thousand parts."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx2
import pytest

from linewise.service.middleware import http_limits

Serve = Callable[..., AbstractContextManager[int]]

POST = b"POST /recognize HTTP/1.1\r\nHost: x\r\n"
PATIENCE = 60  # seconds; nothing here should take one
ENDLESS = 64 * 2**20  # bytes, more than sockets hold on to


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def everything(connection: socket.socket) -> bytes:
    """What comes until the server closes; a reset is a close."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def statuses(received: bytes) -> list[int]:
    return [int(answer[:3]) for answer in received.split(b"HTTP/1.1 ")[1:]]


def assert_well(port: int, picture: bytes) -> None:
    assert httpx2.post(f"http://127.0.0.1:{port}/recognize", content=picture, timeout=PATIENCE).status_code == 200


def numbered_headers() -> Iterator[bytes]:
    for number in itertools.count():
        yield b"".join(b"X-%d: %d\r\n" % (number, one) for one in range(5000))


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
def test_what_has_no_end_is_cut_off(serve: Serve, picture: bytes, start: bytes, rest: Iterator[bytes]) -> None:
    with serve() as port:
        with connect(port) as connection, pytest.raises(ConnectionError):
            connection.sendall(start)
            sent = 0
            while sent < ENDLESS:
                piece = next(rest)
                connection.sendall(piece)
                sent += len(piece)
        assert_well(port, picture)


@pytest.mark.parametrize(("size", "status"), [(http_limits.MAX_HEAD // 2, 200), (2 * http_limits.MAX_HEAD, 431)])
def test_a_large_head_is_taken_and_one_too_large_is_told_so(
    serve: Serve, picture: bytes, size: int, status: int
) -> None:
    with serve() as port, connect(port) as connection:
        connection.sendall(POST)  # in a packet of its own
        time.sleep(0.05)
        connection.sendall(b"X-Long: " + b"a" * size)
        if status == 200:
            time.sleep(0.05)
            connection.sendall(b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture)
        assert statuses(everything(connection)) == [status]


@pytest.mark.parametrize(
    "said", [b"", b"P", POST + b"X-A: ", b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\nGET /heal"]
)
def test_who_does_not_come_to_the_point_is_shown_out(
    serve: Serve, picture: bytes, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT", 0.3)
    with serve() as port, connect(port) as connection:
        connection.sendall(said)
        assert_well(port, picture)
        assert statuses(everything(connection)) in ([], [200])


def test_who_does_not_come_to_the_point_a_second_time_is_shown_out_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT", 0.3)
    with serve() as port, connect(port) as connection:
        connection.sendall(b"GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert statuses(connection.recv(65536)) == [200]
        connection.sendall(b"GET /heal")  # which ends the bound on the silence between two requests
        assert everything(connection).count(b"HTTP/1.1") == 0


def test_a_head_that_trickles_in_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT", 0.3)
    with serve() as port, connect(port) as connection, pytest.raises(ConnectionError):
        connection.sendall(POST)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            connection.sendall(b"X-A: b\r\n")
            time.sleep(0.02)


def test_a_body_may_take_longer_than_a_head(serve: Serve, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEAD_TIMEOUT", 0.1)
    with serve() as port, connect(port) as connection:
        connection.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(picture))
        for start in range(0, len(picture), 1 + len(picture) // 5):
            time.sleep(0.1)
            connection.sendall(picture[start : start + 1 + len(picture) // 5])
        assert statuses(everything(connection)) == [200]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (POST + b"Content-Length: abc\r\n\r\nabc", [400]),
        (POST + b"Content-Length: -1\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc", [400]),
        (POST + b"Content-Length: 9999999999999999\r\nConnection: close\r\n\r\nabc", [413]),
        (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", [400]),
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [400]),
        (
            POST + b"Content-Length: 3\r\n\r\nabcNO SUCH METHOD\r\n\r\n",
            [400],
        ),  # of two, the first is not answered any more
        (POST + b"Transfer-Encoding: gzip, nonsense\r\n\r\nabc", [400]),
        (POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [415]),
        (POST + b"Content-Length: 0\r\nConnection: close\r\n\r\n", [400]),
        (b"\x00\x01\x02\x03\r\n\r\n", [400]),
        (b"GET " + b"\xff" * 20 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),  # the beginning of TLS
    ],
)
def test_lengths_and_beginnings_that_lie(serve: Serve, picture: bytes, request_: bytes, expected: list[int]) -> None:
    with serve() as port:
        with connect(port) as connection:
            connection.sendall(request_)
            assert statuses(everything(connection)) == expected
        assert_well(port, picture)


@pytest.mark.parametrize(
    "request_", [POST + b"Content-Length: 100\r\n\r\nabc", POST + b"Transfer-Encoding: chunked\r\n\r\n64\r\nabc"]
)
def test_a_body_that_stops_half_way_ends_its_request(serve: Serve, picture: bytes, request_: bytes) -> None:
    with serve() as port:
        with connect(port) as connection:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection) == b""
        assert_well(port, picture)


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
        ("/recognize", b"".join(part(f"f{one}", None, b"x") for one in range(1000)), 400, "bad_request"),
        ("/recognize/batch", part("charset", None, b"x") * 1000, 400, "bad_request"),
        ("/recognize", part("file", "a", b"x", b"X-A: b\r\n" * 1000), 400, "bad_request"),
        ("/recognize", part("file", "a", b"x", b"X-A: " + b"b" * 10**6 + b"\r\n"), 400, "bad_request"),
        ("/recognize", part("file", "a" * 10**6, b"x"), 400, "bad_request"),
    ],
)
def test_a_thousand_parts_are_refused(
    serve: Serve, picture: bytes, path: str, parts: bytes, status: int, code: str
) -> None:
    with serve() as port:
        headers = {"content-type": "multipart/form-data; boundary=B"}
        url = f"http://127.0.0.1:{port}{path}"
        response = httpx2.post(url, content=parts + b"--B--\r\n", headers=headers, timeout=PATIENCE)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert_well(port, picture)

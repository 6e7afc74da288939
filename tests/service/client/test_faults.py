"""The client against slow, foreign and broken services, and against its own wrong arguments."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from linewise.service.client import AsyncClient, Client, Result, ServiceFailure

URL = "http://service"
RESULT = {
    "text": "hello",
    "confidence": 0.9,
    "confidence_min": 0.8,
    "warnings": [],
    "image": {"width": 60, "height": 40, "format": "PNG", "orientation_applied": 0},
}
both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


def read(asynchronous: bool, url: str, **arguments: Any) -> Result:
    """Read an image with the blocking or the asyncio client."""
    if not asynchronous:
        with Client(url, **arguments) as client:
            return client.read(b"image")

    async def run() -> Result:
        async with AsyncClient(url, **arguments) as client:
            return await client.read(b"image")

    return asyncio.run(run())


def read_many(asynchronous: bool, images: list[Any], **arguments: Any) -> list[Result | ServiceFailure]:
    """Read images with the blocking or the asyncio client, one request at a time."""
    if not asynchronous:
        with Client(URL, **arguments) as client:
            return list(client.read_many(images, concurrency=1))

    async def run() -> list[Result | ServiceFailure]:
        async with AsyncClient(URL, **arguments) as client:
            return [outcome async for outcome in client.read_many(images, concurrency=1)]

    return asyncio.run(run())


@contextlib.contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """Serve ``head`` at once and then a byte every 0.2 s without end; the value is the URL."""
    stop = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(head)
            while not stop.wait(0.2):
                connection.sendall(b"x")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)


@both
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nx-a: ", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"])
def test_the_timeout_limits_the_whole_call(asynchronous: bool, head: bytes) -> None:
    with dripping(head) as url:
        started = time.monotonic()
        with pytest.raises(ServiceFailure, match=r"within 0\.7 s") as caught:
            read(asynchronous, url, timeout=0.7)
        assert time.monotonic() - started < 3
    assert caught.value.code == "unreachable"


@both
def test_a_retry_after_of_zero_does_not_hammer_the_service(asynchronous: bool) -> None:
    requests = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal requests
        requests += 1
        return httpx2.Response(503, json={"code": "queue_full"}, headers={"retry-after": "0"})

    with pytest.raises(ServiceFailure, match="queue_full"):
        read(asynchronous, URL, timeout=1, transport=httpx2.MockTransport(answer))
    assert 2 <= requests <= 5


@both
@pytest.mark.parametrize(
    ("url", "key", "code"),
    [
        ("127.0.0.1:8000", "secret", "invalid_url"),
        ("localhost:8000", "secret", "invalid_url"),
        ("ftp://service", "secret", "invalid_url"),
        ("http://", "secret", "invalid_url"),
        ("http://[::1", "secret", "invalid_url"),
        ("http://a\0b", "secret", "invalid_url"),
        (URL, "secret\n", "invalid_key"),
        (URL, "secret ", "invalid_key"),
        (URL, "secret-é", "invalid_key"),
        (URL, "secret-€", "invalid_key"),
        (URL, "secret\r\nx: y", "invalid_key"),
    ],
)
def test_an_impossible_url_or_key_fails_at_once_without_showing_the_key(
    asynchronous: bool, url: str, key: str, code: str
) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceFailure) as caught:
        read(asynchronous, url, api_key=key, timeout=30)
    assert time.monotonic() - started < 5
    assert (caught.value.status, caught.value.code) == (0, code)
    assert "secret" not in str(caught.value) and caught.value.__cause__ is None


FOREIGN: dict[str, Callable[[], httpx2.Response]] = {
    "gzip": lambda: httpx2.Response(
        200, headers={"content-encoding": "gzip"}, stream=httpx2.ByteStream(b"this is no gzip")
    ),
    "deep": lambda: httpx2.Response(200, content=b"[" * 100_000),
    "list": lambda: httpx2.Response(200, json=[]),
    "empty-object": lambda: httpx2.Response(200, json={}),
    "null": lambda: httpx2.Response(200, json={"text": None, "image": None, "results": None}),
    "numbers": lambda: httpx2.Response(200, json={"text": "", "image": 1, "results": 1}),
    "too-few": lambda: httpx2.Response(200, json=RESULT | {"image": {}, "results": []}),
    "strings": lambda: httpx2.Response(200, json={"image": "", "results": ["a", "b"]}),
    "errors": lambda: httpx2.Response(200, json={"results": [{"status": "error", "error": {}}] * 2}),
    "utf-16": lambda: httpx2.Response(200, content=b"\xff\xfe\x00\xd8"),
    "no-utf-8": lambda: httpx2.Response(200, content=b'{"a": "\xff"}'),
}


@both
@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_answer_is_a_failure(asynchronous: bool, name: str) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if b"second" in request.read():
            return httpx2.Response(200, json={"results": [RESULT | {"status": "ok"}] * 32})
        return FOREIGN[name]()

    transport = httpx2.MockTransport(answer)
    with pytest.raises(ServiceFailure) as caught:
        read(asynchronous, URL, transport=transport)
    assert caught.value.code == "unexpected" and "Linewise" in caught.value.detail
    outcomes = read_many(asynchronous, [b"first"] * 32 + [b"second"] * 32, transport=transport)
    assert [isinstance(outcome, Result) for outcome in outcomes] == [False] * 32 + [True] * 32


@both
def test_an_impossible_path_fails_alone(asynchronous: bool, tmp_path: Path) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"results": [RESULT | {"status": "ok"}] * 2}))
    outcomes = read_many(asynchronous, [b"image", "nul\0.png", "\ud800.png", b"image"], transport=transport)
    assert [outcome.code if isinstance(outcome, ServiceFailure) else "" for outcome in outcomes] == [
        "", "unreadable_file", "unreadable_file", "",
    ]  # fmt: skip

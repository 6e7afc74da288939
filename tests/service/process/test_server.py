"""The service behind a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from linewise.service.app import create_app
from linewise.service.settings import Settings

Serve = Callable[..., AbstractContextManager[int]]


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Receive a response: its status and JSON body."""
    connection.settimeout(20)
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), json.loads(body)


def test_an_image_posted_over_the_wire_is_read(serve: Serve, picture: bytes, fake: Any) -> None:
    with serve() as port:
        response = httpx2.post(f"http://127.0.0.1:{port}/recognize", files={"file": picture})
    assert response.status_code == 200
    assert response.json()["text"] == fake.reading(fake.seen[0]).text


def test_a_chunked_body_without_length_is_cut_off(serve: Serve) -> None:
    with serve(max_body_bytes=10_000) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /recognize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(11):
            connection.sendall(b"3e8\r\n" + bytes(1000) + b"\r\n")
        status, body = answer(connection)
    assert (status, body["code"]) == (413, "body_too_large")


def test_a_client_that_waits_for_100_continue_is_refused_before_it_sends(serve: Serve) -> None:
    with serve(max_body_bytes=10_000) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 999999\r\nExpect: 100-continue\r\n\r\n"
        )
        status, body = answer(connection)
    assert (status, body["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/recognize", "/nowhere"])
def test_an_early_answer_reaches_a_client_that_is_still_sending(serve: Serve, path: str) -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(20_000)
    body = b"\r\n".join([part] * 70) + b"\r\n--B--\r\n"  # rejected at the second part
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\nConnection: close\r\n"
    with serve() as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert answer(connection)[0] in (400, 404)
        assert connection.recv(1) == b"", "closed in order, not reset"


def test_a_slow_upload_is_timed_out_and_others_are_served_meanwhile(serve: Serve, picture: bytes) -> None:
    with serve(upload_timeout=0.3) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        url = f"http://127.0.0.1:{port}/recognize"
        assert httpx2.post(url, content=picture).status_code == 200
        status, body = answer(connection)
    assert (status, body["code"]) == (408, "upload_timeout")


FORM = b'--B\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n%s\r\n--B--\r\n'


@pytest.mark.parametrize("kind", ["raw", "form", "batch"])
def test_a_slow_upload_to_an_idle_service_is_served(serve: Serve, picture: bytes, kind: str) -> None:
    path = "/recognize/batch" if kind == "batch" else "/recognize"
    body = picture if kind == "raw" else FORM % (b"files" if kind == "batch" else b"file", picture)
    content_type = "image/png" if kind == "raw" else "multipart/form-data; boundary=B"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    timeouts = {"request_timeout": 0.5, "batch_timeout": 0.5}
    with serve(**timeouts) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body[:20])
        time.sleep(0.8)  # longer than the deadline, which begins when the body has arrived
        connection.sendall(body[20:])
        status, result = answer(connection)
    assert status == 200 and result.get("summary", {"error": 0})["error"] == 0


def test_a_disconnect_during_the_upload_affects_no_other_client(serve: Serve, picture: bytes) -> None:
    with serve() as port:
        for sent in (b"", b"abc"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + sent)
        url = f"http://127.0.0.1:{port}/recognize"
        assert httpx2.post(url, content=picture).status_code == 200


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def post_head(picture: bytes, path: str = "/recognize") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(picture)}\r\n\r\n".encode() + picture


@pytest.mark.parametrize("accept", ["", "application/x-ndjson"])
def test_a_disconnect_cancels_the_work(serve: Serve, picture: bytes, fake: Any, accept: str) -> None:
    app = create_app(Settings(threads=1), fake)
    engine = app.state.engine
    with serve(app) as port:
        fake.gate.clear()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(post_head(picture))
            until(lambda: bool(fake.threads))
            with contextlib.suppress(httpx2.ReadTimeout):
                httpx2.post(
                    f"http://127.0.0.1:{port}/recognize/batch",
                    files=[("files", picture)] * 5,
                    headers={"accept": accept},
                    timeout=0.2,
                )
            until(lambda: engine.load[:2] == (1, 0))
            fake.gate.set()
            assert answer(connection)[0] == 200
        until(lambda: engine.load[:2] == (0, 0))
    assert len(fake.seen) == 1


def test_a_stream_arrives_line_by_line(serve: Serve, picture: bytes, fake: Any) -> None:
    with serve() as port:
        fake.gate.clear()
        files = [("files", ("good", picture)), ("files", ("bad", b"hello"))]
        url, headers = f"http://127.0.0.1:{port}/recognize/batch", {"accept": "application/x-ndjson"}
        with httpx2.stream("POST", url, files=files, headers=headers) as response:
            lines = response.iter_lines()
            assert json.loads(next(lines))["id"] == "bad"
            fake.gate.set()
            assert json.loads(next(lines))["id"] == "good"
            assert json.loads(next(lines))["summary"]["total"] == 2


def test_shutdown_answers_admitted_requests(fake: Any, serve: Serve, picture: bytes) -> None:
    running = serve()
    port = running.__enter__()
    fake.gate.clear()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(post_head(picture))
        until(lambda: bool(fake.threads))
        opening = threading.Timer(0.1, fake.gate.set)
        opening.start()
        running.__exit__(None, None, None)  # stops the server while the model runs
        assert answer(connection)[0] == 200
    opening.join()

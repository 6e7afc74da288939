"""The command ``linewise load`` against a real service."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from linewise.service.app import create_app
from linewise.service.cli import main
from linewise.service.cli.load_test import Exchange, Report
from linewise.service.settings import Settings


class FakeClock:
    """A clock that advances by 10 ms each time it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def perf_counter(self) -> float:
        self.reads += 1
        return self.reads / 100

    def monotonic(self) -> float:
        return self.reads / 100


@pytest.fixture
def url(fake: Any) -> Iterator[str]:
    app = create_app(Settings(), fake)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and app.state.engine.ready):
        time.sleep(0.002)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def images(tmp_path: Path, picture: bytes) -> Path:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(picture)
    return tmp_path


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(main.app, ["load", "--json", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def test_every_response_is_counted(url: str, images: Path, fake: Any) -> None:
    figures = run(url, images, "--clients", 3, "--seconds", 0.3)
    assert figures["statuses"] == {"200": len(fake.seen)}
    assert figures["images_per_s"] == pytest.approx(len(fake.seen) / figures["seconds"], rel=0.02)
    assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]


def test_images_of_batches_are_counted_one_by_one(
    url: str, images: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linewise.service.cli.load_test.time", FakeClock())
    figures = run(url, images, "--clients", 1, "--seconds", 0.21, "--batch", 4)
    assert figures["statuses"] == {"200": 7}  # each request reads the clock three times
    assert len(fake.seen) == 4 + 1 + 4 + 1 + 4 + 1 + 4  # five images in batches of four
    assert figures["images_per_s"] == round(len(fake.seen) / figures["seconds"], 1)


def test_the_rate_does_not_depend_on_the_responses(url: str, images: Path, fake: Any) -> None:
    figures = run(url, images, "--rate", 200, "--seconds", 0.5)
    assert 60 <= sum(figures["statuses"].values()) <= 140


def test_error_responses_are_counted_apart_from_results(url: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"hello")
    figures = run(url, tmp_path, "--clients", 1, "--seconds", 0.1)
    assert list(figures["statuses"]) == ["415"]
    assert figures["images_per_s"] == figures["p50_ms"] == 0.0 < figures["refusal_p50_ms"]


def test_a_lost_connection_is_status_zero(images: Path) -> None:
    assert list(run("http://127.0.0.1:9", images, "--clients", 1, "--seconds", 0.1)["statuses"]) == ["0"]


class RawServer:
    """A server that answers every request of 127.0.0.1 with the same bytes, and then closes if ``closes``."""

    def __init__(self, answer: bytes, closes: bool = False) -> None:
        self.answer, self.closes, self.heads = answer, closes, list[bytes]()
        self.connections = 0
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.handle, "127.0.0.1", 0))
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.heads.append(head)
                writer.write(self.answer)
                if self.closes:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.call_later, 0.1, self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n12\r\n" + b"d" * 18 + b"\r\n0\r\n\r\n",
            False,
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length:3\r\n\r\nabc", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
    ],
)
def test_responses_of_every_framing_are_received(images: Path, answer: bytes, closes: bool) -> None:
    server = RawServer(answer, closes)
    try:
        figures = run(f"http://127.0.0.1:{server.port}/ocr/", images, "--clients", 1, "--seconds", 0.2)
    finally:
        server.close()
    assert figures["statuses"] == {"200": len(server.heads)}
    assert (server.connections == len(server.heads)) if closes else (server.connections == 1)
    assert server.heads[0].startswith(f"POST /ocr/recognize HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        (b"SSH-2.0-OpenSSH\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", True),
        (b"", True),
    ],
)
def test_an_incomplete_or_foreign_response_is_status_zero(images: Path, answer: bytes, closes: bool) -> None:
    server = RawServer(answer, closes)
    try:
        figures = run(f"http://127.0.0.1:{server.port}", images, "--clients", 1, "--seconds", 0.1)
    finally:
        server.close()
    assert list(figures["statuses"]) == ["0"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Certificate and key for 127.0.0.1, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "certificate.pem"
    program = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key.pem"), "-out", str(path)]
    subprocess.run([*program, *options], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "key.pem").read_bytes())
    return path


@pytest.mark.parametrize("trusted", [True, False])
def test_an_https_address_is_reached_by_tls_with_a_trusted_certificate(
    fake: Any, images: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    app = create_app(Settings(), fake)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ssl_certfile=certificate))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not (server.started and app.state.engine.ready):
        time.sleep(0.002)
    try:
        address = f"https://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            assert list(run(address, images, "--clients", 2, "--seconds", 0.3)["statuses"]) == ["200"]
        else:
            result = CliRunner().invoke(main.app, ["load", address, str(images), "--seconds", "0.2"])
            assert result.exit_code == 1
            assert result.stderr.startswith(f"linewise: {address}: the certificate is not trusted: ")
            assert len(result.stderr.splitlines()) == 1 and "SSL_CERT_FILE" in result.stderr
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "localhost:8000", "ftp://127.0.0.1", "http://", "http://a:b"])
def test_an_address_without_scheme_or_host_is_refused(images: Path, address: str) -> None:
    result = CliRunner().invoke(main.app, ["load", address, str(images)])
    assert result.exit_code == 2
    assert (
        result.stderr == f"linewise: {address}: not an address such as http://127.0.0.1:8000 or https://ocr.example\n"
    )


def test_percentiles_are_of_the_sorted_times() -> None:
    report = Report(1.0, [Exchange(0.0, seconds / 1000.0, 200, 1) for seconds in range(100, 0, -1)])
    assert (report.percentile(50, good=True), report.percentile(99, good=True)) == (51.0, 100.0)

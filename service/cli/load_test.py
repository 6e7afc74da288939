"""The command ``linewise load`` and its load generator.

The client is a bare HTTP/1.1 exchange on asyncio streams, with the response parser of httptools. A full client library
would use as much of a small machine's processor as the service itself, and distort the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httptools
import typer

from linewise.service.bulk.sources import image_files
from linewise.service.cli.common import fail

MULTIPART_BOUNDARY = "linewise-load"
RECEIVE_SIZE_BYTES = 2**16
MAX_CONNECTION_IDLE_S = 3.0  # servers commonly close idle connections after 5 s


def load(
    url: Annotated[str, typer.Argument(help="Address of a running service, such as http://127.0.0.1:8000.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders or glob patterns to send.")],
    clients: Annotated[
        int, typer.Option(min=1, help="Concurrent clients. Each sends its next request after its response.")
    ] = 32,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Average requests per second, whatever the responses; replaces --clients."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per request; only without --rate.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of the test.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Send requests to a running service; print throughput, latency and response statuses."""
    contents = [Path(source).read_bytes() for source in image_files(images) if Path(source).is_file()]
    if not contents:
        fail(f"no images in {', '.join(images)}", 1)
    try:
        parse_address(url)
    except ValueError:
        fail(f"{url}: not an address such as http://127.0.0.1:8000 or https://ocr.example", 2)
    test = (
        closed_loop(url, contents, clients=clients, seconds=seconds, batch=batch)
        if rate is None
        else open_loop(url, contents, rate=rate, seconds=seconds)
    )
    try:
        report = asyncio.run(test)
    except ssl.SSLCertVerificationError as error:
        reason = f"{error.verify_message}; SSL_CERT_FILE may name a file of trusted certificates"
        fail(f"{url}: the certificate is not trusted: {reason}", 1)
    typer.echo(json.dumps(report.as_dict()) if as_json else as_lines(report))


@dataclass(frozen=True)
class Exchange:
    """One request and its response.

    ``sent`` is the time of sending and ``seconds`` the latency, both in seconds; ``images`` is the number of images in
    the request. Status 0 is a lost connection.
    """

    sent: float
    seconds: float
    status: int
    images: int


@dataclass
class Report:
    """All exchanges of a test of ``seconds`` seconds."""

    seconds: float
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def statuses(self) -> dict[int, int]:
        """Number of responses by status."""
        return dict(sorted(Counter(exchange.status for exchange in self.exchanges).items()))

    @property
    def images_per_second(self) -> float:
        """Images read per second."""
        return sum(exchange.images for exchange in self.exchanges if exchange.status == 200) / self.seconds

    def percentile(self, percent: float, *, good: bool) -> float:
        """Compute a latency percentile in ms of the responses with status 200 or, if not ``good``, of the others.

        0 without any.
        """
        times = sorted(exchange.seconds for exchange in self.exchanges if (exchange.status == 200) == good)
        return round(1000.0 * times[min(len(times) - 1, int(len(times) * percent / 100.0))], 1) if times else 0.0

    def as_dict(self) -> dict[str, object]:
        """Return the figures by name; latencies in ms."""
        return {
            "seconds": round(self.seconds, 2),
            "images_per_s": round(self.images_per_second, 1),
            "p50_ms": self.percentile(50, good=True),
            "p95_ms": self.percentile(95, good=True),
            "p99_ms": self.percentile(99, good=True),
            "refusal_p50_ms": self.percentile(50, good=False),
            "refusal_p99_ms": self.percentile(99, good=False),
            "statuses": self.statuses,
        }


@dataclass(frozen=True)
class Address:
    """Address of a service: where to connect, with TLS if ``tls`` is given, and the start of its paths."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    authority: str
    path: str


def parse_address(url: str) -> Address:
    """Parse the address of a service. Raises ``ValueError``."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an HTTP address")
    secure = parts.scheme == "https"
    return Address(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl.create_default_context() if secure else None,
        parts.netloc.rpartition("@")[2],
        parts.path.rstrip("/"),
    )


class _Response:
    """Callbacks of the parser for one response."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.complete = False
        self.keep_alive = False
        self.ends_with_connection = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self.ends_with_connection = False

    def on_message_complete(self) -> None:
        self.complete = self.parser.get_status_code() >= 200  # interim responses precede the final one
        self.keep_alive = self.parser.should_keep_alive()


class _Connection:
    """Keep-alive connection that is reopened after the server has closed it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._last_used = 0.0

    async def exchange(self, request: bytes) -> int:
        """Send a request, receive the whole response and return its status; 0 if the connection was lost.

        Raises:
            ssl.SSLCertVerificationError: the certificate of the server is not trusted.
        """
        if time.monotonic() - self._last_used > MAX_CONNECTION_IDLE_S:
            self.close()
        try:
            if self._streams is None:
                address = self._address
                self._streams = await asyncio.open_connection(address.host, address.port, ssl=address.tls)
            reader, writer = self._streams
            writer.write(request)
            response = await self._receive(reader)
            if not response.keep_alive:
                self.close()
            self._last_used = time.monotonic()
            return response.parser.get_status_code()
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, EOFError, httptools.HttpParserError):
            self.close()
            return 0

    async def _receive(self, reader: asyncio.StreamReader) -> _Response:
        """Receive a whole response. Raises ``EOFError`` if it ends early."""
        response = _Response()
        while not response.complete:
            data = await reader.read(RECEIVE_SIZE_BYTES)
            if not data:
                if response.parser.get_status_code() < 200 or not response.ends_with_connection:
                    raise EOFError
                break
            response.parser.feed_data(data)
        return response

    def close(self) -> None:
        """Close the connection, if open."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def requests_for(address: Address, images: Sequence[bytes], batch: int) -> list[tuple[bytes, int]]:
    """Build requests that send every image once; returns the bytes of each request with its number of images."""
    path = address.path + ("/recognize" if batch == 1 else "/recognize/batch")
    requests = []
    for first in range(0, len(images), batch):
        group = images[first : first + batch]
        content_type, body = ("image/png", group[0]) if batch == 1 else multipart(group)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {address.authority}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append((head.encode() + body, len(group)))
    return requests


async def closed_loop(url: str, images: Sequence[bytes], *, clients: int, seconds: float, batch: int = 1) -> Report:
    """Run ``clients`` clients that each send the next request after the response to the last."""
    address = parse_address(url)
    requests = requests_for(address, images, batch)
    report = Report(seconds)

    async def client(number: int) -> None:
        connection = _Connection(address)
        position = number * len(requests) // clients
        while time.perf_counter() - started < seconds:
            await _timed(connection, *requests[position % len(requests)], report)
            position += 1
        connection.close()

    with _garbage_collection_paused():
        started = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        report.seconds = time.perf_counter() - started
    return report


async def open_loop(url: str, images: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0) -> Report:
    """Send requests as a Poisson process of ``rate`` per second, without waiting for responses."""
    address = parse_address(url)
    requests = requests_for(address, images, 1)
    rng = random.Random(seed)
    report = Report(seconds)
    idle: list[_Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def send(request: bytes, image_count: int) -> None:
        connection = idle.pop() if idle else _Connection(address)
        await _timed(connection, request, image_count, report)
        idle.append(connection)

    with _garbage_collection_paused():
        due = started = time.perf_counter()
        while due - started < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(send(*rng.choice(requests)))
            running.add(task)
            task.add_done_callback(running.discard)
            due += rng.expovariate(rate)
        await asyncio.gather(*running)
        report.seconds = time.perf_counter() - started
    for connection in idle:
        connection.close()
    return report


@contextlib.contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Disable garbage collection, whose pauses would count as latency of the service."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _timed(connection: _Connection, request: bytes, images: int, report: Report) -> None:
    """Make one exchange and add it to the report."""
    sent = time.perf_counter()
    status = await connection.exchange(request)
    report.exchanges.append(Exchange(sent, time.perf_counter() - sent, status, images))


def multipart(images: Sequence[bytes]) -> tuple[str, bytes]:
    """Encode images as a multipart form with the field ``files``; returns content type and body."""
    parts = [
        f'--{MULTIPART_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{number}"\r\n\r\n'.encode()
        + image
        for number, image in enumerate(images)
    ]
    body = b"\r\n".join(parts) + f"\r\n--{MULTIPART_BOUNDARY}--\r\n".encode()
    return f"multipart/form-data; boundary={MULTIPART_BOUNDARY}", body


def as_lines(report: Report) -> str:
    """Format the figures as text, one per line."""
    return "\n".join(f"{name:>16}  {json.dumps(value)}" for name, value in report.as_dict().items())

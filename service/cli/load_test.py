"""Load on a running service, measured from outside: how fast, how late, how honest when it is too much.

The client is a bare HTTP/1.1 exchange on asyncio streams: on a small machine a full client library would take as much
of the processor as the service does, and the figures would be its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BOUNDARY = "linewise-load"
FRESH = 3.0  # seconds that an idle connection is trusted; servers commonly close theirs after five


@dataclass(frozen=True)
class Exchange:
    """One request: when it was sent, how long the answer took, both in seconds, its status and images in it."""

    sent: float
    seconds: float
    status: int
    images: int


@dataclass
class Report:
    """All exchanges of a run of ``seconds`` seconds."""

    seconds: float
    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def statuses(self) -> dict[int, int]:
        """How many answers had which status; 0 is a lost connection."""
        return dict(sorted(Counter(one.status for one in self.exchanges).items()))

    @property
    def images_per_second(self) -> float:
        """Images read per second."""
        return sum(one.images for one in self.exchanges if one.status == 200) / self.seconds

    def percentile(self, percent: float, *, good: bool) -> float:
        """Milliseconds within which that share of the good answers, or of the refusals, came; 0 without any."""
        times = sorted(one.seconds for one in self.exchanges if (one.status == 200) == good)
        return round(1000.0 * times[min(len(times) - 1, int(len(times) * percent / 100.0))], 1) if times else 0.0

    def as_dict(self) -> dict[str, object]:
        """The figures, times in milliseconds."""
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


class _Connection:
    """One keep-alive connection, opened anew when the other side has closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0

    async def exchange(self, request: bytes) -> int:
        """Send a request and take in the whole answer; its status, 0 when the connection was lost."""
        if time.monotonic() - self._used > FRESH:
            self.close()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields[b"content-length"]))
            if fields.get(b"connection") == b"close":
                self.close()
            self._used = time.monotonic()
            return int(head.split(b" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def requests_for(url: str, images: Sequence[bytes], batch: int) -> tuple[str, int, list[tuple[bytes, int]]]:
    """Host, port and the requests, each with its number of images, that send every image once."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    path = "/recognize" if batch == 1 else "/recognize/batch"
    requests = []
    for first in range(0, len(images), batch):
        chosen = images[first : first + batch]
        content_type, body = ("image/png", chosen[0]) if batch == 1 else multipart(chosen)
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
        requests.append((f"{head}\r\n\r\n".encode() + body, len(chosen)))
    return host, port, requests


async def closed_loop(url: str, images: Sequence[bytes], *, clients: int, seconds: float, batch: int = 1) -> Report:
    """So many clients, each sending its next request when it has its answer."""
    host, port, requests = requests_for(url, images, batch)
    report = Report(seconds)

    async def client(number: int) -> None:
        connection = _Connection(host, port)
        position = number * len(requests) // clients
        while time.perf_counter() - started < seconds:
            await _timed(connection, *requests[position % len(requests)], report)
            position += 1
        connection.close()

    with _without_pauses():
        started = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        report.seconds = time.perf_counter() - started
    return report


async def open_loop(url: str, images: Sequence[bytes], *, rate: float, seconds: float, seed: int = 0) -> Report:
    """Requests at random moments, ``rate`` per second on average, whatever becomes of the ones before."""
    host, port, requests = requests_for(url, images, 1)
    chance = random.Random(seed)
    report = Report(seconds)
    idle: list[_Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def one(request: bytes, count: int) -> None:
        connection = idle.pop() if idle else _Connection(host, port)
        await _timed(connection, request, count, report)
        idle.append(connection)

    with _without_pauses():
        due = started = time.perf_counter()
        while due - started < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(one(*chance.choice(requests)))
            running.add(task)
            task.add_done_callback(running.discard)
            due += chance.expovariate(rate)
        await asyncio.gather(*running)
        report.seconds = time.perf_counter() - started
    for connection in idle:
        connection.close()
    return report


@contextlib.contextmanager
def _without_pauses() -> Iterator[None]:
    """No search for garbage meanwhile: its pauses would be measured as the service's."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _timed(connection: _Connection, request: bytes, images: int, report: Report) -> None:
    sent = time.perf_counter()
    status = await connection.exchange(request)
    report.exchanges.append(Exchange(sent, time.perf_counter() - sent, status, images))


def multipart(images: Sequence[bytes]) -> tuple[str, bytes]:
    """Content type and body of a form that holds the images as ``files``."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{number}"\r\n\r\n'.encode() + image
        for number, image in enumerate(images)
    ]
    body = b"\r\n".join(parts) + f"\r\n--{BOUNDARY}--\r\n".encode()
    return f"multipart/form-data; boundary={BOUNDARY}", body


def as_lines(report: Report) -> str:
    """The figures for a person."""
    return "\n".join(f"{name:>16}  {json.dumps(value)}" for name, value in report.as_dict().items())

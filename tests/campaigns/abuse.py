"""Crafted attacks on the resources of a service, beside a quiet client of single lines.

    python -m tests.campaigns.abuse --seconds 120

Starts a service with the shipped weights. Attackers send, without pause: pictures of many pixels or scans in every
format, PDFs that ask for much work, long lines with alternatives and lexicons, and uploads and downloads that stall.
The campaign fails if the quiet client gets a wrong answer or none, if its 99th percentile is above a second, if the
resident memory exceeds the limit of the manifests, if the probes are not true to the facts, or if the service does not
end in time on SIGTERM while connections stall. Latencies include what else runs on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from linewise.service.cli.load_test import multipart
from tests.campaigns.documents import pdf_of, stream
from tests.campaigns.harness import TIMEOUT_S, free_port, resident, start

MEMORY_LIMIT_MB = 1500  # of service/deploy
MAX_P99_S = 1.0
PERIOD_S = 0.25  # of the quiet client, and of the samples of memory and readiness
DRAIN_TIMEOUT_S = 10
EXIT_MARGIN_S = 10
SIDE = 7000  # just below the limit of 50 megapixels
ALLOWED_STATUSES = {200, 400, 408, 413, 415, 422, 429, 503, 504}

Attack = tuple[str, str, bytes]  # path, content type, body


@dataclass
class Tally:
    """What was seen of the service."""

    latencies: list[float] = field(default_factory=list)
    quiet: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    probes: Counter[str] = field(default_factory=Counter)
    stopping: bool = False
    untrue: int = 0  # times at which readiness was green and the quiet client was refused
    memory: list[float] = field(default_factory=list)


def line(text: str = "INVOICE 1042", times: int = 1) -> bytes:
    """Draw a PNG of a line of text, repeated to the right."""
    drawn = Image.new("L", (16 + 15 * len(text), 40), 255)
    ImageDraw.Draw(drawn).text((8, 6), text, fill=0, font_size=24)
    return _encoded(Image.fromarray(np.tile(np.asarray(drawn), (1, times))), "PNG")


def _encoded(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def scan_bomb(side: int, scans: int) -> bytes:
    """Build a progressive JPEG whose last scan is repeated."""
    data = _encoded(Image.new("L", (side, side), 255), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


def deep_pdf(depth: int) -> bytes:
    """Build a PDF of nested drawings, each of which draws the next ten times."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>"
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page]
    for number in range(4, 4 + depth):
        head = b"/Type/XObject/Subtype/Form/BBox[0 0 99 99]/Resources<</XObject<</F %d 0 R>>>>" % (number + 1)
        objects.append(stream(head, b"/F Do " * 10 if number < 3 + depth else b"0 0 9 9 re f", packed=True))
    return pdf_of(*objects)


def attacks() -> list[Attack]:
    """Build the requests of the attackers: one of each kind."""
    blank, clear = Image.new("L", (SIDE, SIDE), 255), Image.new("RGBA", (SIDE, SIDE), (9, 9, 9, 128))
    pictures = [
        ("image/jpeg", scan_bomb(SIDE, 24)),
        ("image/jpeg", scan_bomb(SIDE, 1200)),
        ("image/png", _encoded(clear, "PNG")),
        ("image/webp", _encoded(Image.new("RGBA", (16_383, 3000), (9, 9, 9, 128)), "WEBP", lossless=True)),
        ("image/tiff", _encoded(clear, "TIFF", compression="tiff_adobe_deflate")),
        ("image/bmp", _encoded(blank.convert("1"), "BMP")),
    ]
    requests = [(f"/recognize?mode={mode}", kind, data) for kind, data in pictures for mode in ("line", "page")]
    requests += [("/recognize?mode=page", "application/pdf", deep_pdf(depth)) for depth in (6, 8)]
    long = line("when this book was written ", 14)
    requests.append(("/recognize/batch?alternatives=10", *multipart([long] * 16)))
    words = "\n".join(f"word{number}" for number in range(200_000))
    parts = f'--B\r\nContent-Disposition: form-data; name="lexicon"\r\n\r\n{words}\r\n--B\r\n'.encode()
    parts += b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + long + b"\r\n--B--\r\n"
    requests.append(("/recognize", "multipart/form-data; boundary=B", parts))
    return requests


def _head(path: str, kind: str, size: int, more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n".encode()


async def exchange(port: int, request: bytes) -> tuple[int, bytes]:
    """Send a request with ``Connection: close``; return status and body, 0 for a closed connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return (int(head.split(b" ", 2)[1]), body) if head else (0, b"")
    except ConnectionError:
        return 0, b""
    finally:
        writer.close()


async def attack(port: int, requests: Callable[[], Attack], tally: Tally) -> None:
    """Send requests without pause."""
    while True:
        path, kind, body = requests()
        status, _ = await exchange(port, _head(path, kind, len(body), "Connection: close\r\n") + body)
        if tally.stopping:  # connections may now be refused
            return
        tally.attacks[str(status) if status in ALLOWED_STATUSES else f"wrong: {status} to {kind}"] += 1


async def stall_reading(port: int, body: bytes) -> None:
    """Ask for a large PDF and read nothing of it."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(_head("/recognize", "image/jpeg", len(body), "Accept: application/pdf\r\n") + body)
        await asyncio.sleep(20)
        writer.close()


async def stall_sending(port: int) -> None:
    """Announce a body of 90 MB and send a byte of it every second."""
    while True:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_head("/recognize/batch", "multipart/form-data; boundary=B", 90_000_000))
        for _ in range(20):
            writer.write(b"-")
            await asyncio.sleep(1)
        writer.close()


async def quiet(port: int, expected: str, tally: Tally, end: float) -> None:
    """Send one line after the other, and compare readiness with the outcome."""
    body = line()
    request = _head("/recognize", "image/png", len(body), "Connection: close\r\n") + body
    while time.monotonic() < end:
        ready, _ = await exchange(port, b"GET /healthz/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        live, _ = await exchange(port, b"GET /healthz/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        tally.probes[f"ready {ready}, live {live}"] += 1
        started = time.monotonic()
        status, answer = await exchange(port, request)
        tally.latencies.append(time.monotonic() - started)
        right = status == 200 and json.loads(answer)["text"] == expected
        outcome = f"{status} {json.loads(answer)['code']}" if status >= 400 else "wrong" if status else "closed"
        tally.quiet["right" if right else outcome] += 1
        tally.untrue += ready == 200 and not right
        await asyncio.sleep(PERIOD_S)


async def run(port: int, process: subprocess.Popen[bytes], seconds: float, attackers: int) -> dict[str, object]:
    """Attack for some seconds, stop the service under attack, and return the report."""
    tally, requests = Tally(), cycle(attacks())
    body = line()
    _, answer = await exchange(port, _head("/recognize", "image/png", len(body), "Connection: close\r\n") + body)
    expected = json.loads(answer)["text"]
    photo = _encoded(Image.open(io.BytesIO(line())).convert("L"), "JPEG")
    large = photo + bytes(19_500_000 - len(photo))
    running = [asyncio.create_task(attack(port, lambda: next(requests), tally)) for _ in range(attackers)]
    running += [asyncio.create_task(stall_reading(port, large)) for _ in range(20)]
    running += [asyncio.create_task(stall_sending(port)) for _ in range(3)]

    async def watch() -> None:
        while True:
            tally.memory.append(resident(process.pid))
            await asyncio.sleep(PERIOD_S)

    running.append(asyncio.create_task(watch()))
    await quiet(port, expected, tally, time.monotonic() + seconds)
    tally.stopping = True
    process.send_signal(signal.SIGTERM)
    stopped = time.monotonic()
    code = await asyncio.to_thread(process.wait, TIMEOUT_S)
    exit_s = time.monotonic() - stopped
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return report(tally, code, exit_s)


def report(tally: Tally, code: int, exit_s: float) -> dict[str, object]:
    """Summarise the tally, with what failed."""
    p50, p99 = (float(np.percentile(tally.latencies, share)) for share in (50, 99))
    peak = max(tally.memory)
    failed = [name for name in tally.attacks if name.startswith("wrong")]
    failed += [f"quiet client: {name}" for name in tally.quiet if name != "right"]
    checks = {
        f"p99 of the quiet client: {p99:.2f} s": p99 > MAX_P99_S,
        f"memory: {peak:.0f} MB": peak > MEMORY_LIMIT_MB,
        f"readiness was green {tally.untrue} times and should not": tally.untrue > 0,
        f"exit with {code} after {exit_s:.1f} s": code != 0 or exit_s > DRAIN_TIMEOUT_S + EXIT_MARGIN_S,
    }
    failed += [name for name, wrong in checks.items() if wrong]
    return {
        "quiet": dict(tally.quiet), "p50_s": round(p50, 3), "p99_s": round(p99, 3), "attacks": dict(tally.attacks),
        "probes": dict(tally.probes), "memory_mb": {"start": round(tally.memory[0]), "peak": round(peak)},
        "exit_s": round(exit_s, 1), "failed": failed,
    }  # fmt: skip


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--attackers", type=int, default=8)
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {"LINEWISE_DRAIN_TIMEOUT": str(DRAIN_TIMEOUT_S)}
        process = start(port, log=Path(folder, "log"), environment=environment)
        try:
            figures = asyncio.run(run(port, process, arguments.seconds, arguments.attackers))
        finally:
            process.kill()
    print(json.dumps(figures, indent=2))
    return int(bool(figures["failed"]))


if __name__ == "__main__":
    sys.exit(main())

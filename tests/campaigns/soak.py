"""Memory growth under mixed requests over a long time.

    python -m tests.campaigns.soak --minutes 30 lines/

Starts a service with the shipped weights and sends the pictures of a folder without pause: single and in batches, valid
and truncated, some with short deadlines, some abandoned. The campaign fails if the resident memory grows by more than
1 MB per 1000 requests in the second half, or if a request is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np

from linewise.service.bulk.sources import image_files
from linewise.service.cli.load_test import multipart
from tests.campaigns.harness import resident, service

MAX_GROWTH_MB_PER_1000_REQUESTS = 1.0
EXPECTED_STATUSES = {200, 413, 415, 422, 503, 504}


def slope(requests: list[int], megabytes: list[float]) -> tuple[float, float]:
    """Fit the growth in MB per 1000 requests by least squares; returns it with half of its 95 % confidence interval."""
    x, y = np.array(requests) / 1000, np.array(megabytes)
    centred = x - x.mean()
    spread = float(centred @ centred)
    rise = float(centred @ y) / spread
    rest = y - y.mean() - rise * centred
    return rise, 1.96 * float(np.sqrt(rest @ rest / (len(x) - 2) / spread))


def request(random: Random, pictures: list[bytes]) -> tuple[bytes, bool]:
    """Build the bytes of a request, and whether the client abandons it."""
    kind = random.random()
    picture = random.choice(pictures)
    if kind < 0.1:
        picture = picture[: random.randrange(1, len(picture))]
    headers = "X-Request-Timeout: 0.001\r\n" if kind > 0.95 else ""
    if 0.1 < kind < 0.25:
        content_type, body = multipart([random.choice(pictures) for _ in range(random.randint(1, 32))])
        path = "/recognize/batch?detail=chars"
    else:
        content_type, body = "image/png", picture
        path = random.choice(("/recognize", "/recognize?detail=chars&alternatives=3", "/recognize?orientation=auto"))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n{headers}Content-Length: {len(body)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + body, 0.9 < kind < 0.95


async def run(port: int, pid: int, pictures: list[bytes], minutes: float, clients: int) -> dict[str, object]:
    """Send requests for ``minutes`` and return the report."""
    statuses: Counter[str] = Counter()
    sent: list[int] = []
    memory: list[float] = []
    end = time.monotonic() + 60 * minutes

    async def client(number: int) -> None:
        random = Random(number)
        while time.monotonic() < end:
            data, abandons = request(random, pictures)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(data)
                await writer.drain()
                if abandons:
                    await asyncio.sleep(random.random() * 0.02)
                    statuses["given up"] += 1
                    continue
                answer = await asyncio.wait_for(reader.read(), 60)
                status = int(answer.split(b" ", 2)[1]) if answer else 0
                statuses[str(status) if status in EXPECTED_STATUSES else f"wrong: {status}"] += 1
            except (OSError, TimeoutError) as error:
                statuses[f"wrong: {type(error).__name__}"] += 1
            finally:
                writer.close()

    async def watch() -> None:
        while time.monotonic() < end:
            sent.append(sum(statuses.values()))
            memory.append(resident(pid))
            await asyncio.sleep(max(0.2, 60 * minutes / 400))

    await asyncio.gather(watch(), *(client(number) for number in range(clients)))
    half = len(sent) // 2
    rise, margin = slope(sent[half:], memory[half:])
    return {
        "requests": sum(statuses.values()), "outcomes": dict(sorted(statuses.items())),
        "memory_mb": {"start": round(memory[0]), "half": round(memory[half]), "end": round(memory[-1])},
        "mb_per_1000_requests": round(rise, 3), "give_or_take": round(margin, 3),
        "failed": rise - margin > MAX_GROWTH_MB_PER_1000_REQUESTS or any(name.startswith("wrong") for name in statuses),
    }  # fmt: skip


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    pictures = [Path(name).read_bytes() for name in image_files(arguments.images)]
    with service() as (port, pid):
        report = asyncio.run(run(port, pid, pictures, arguments.minutes, arguments.clients))
    print(json.dumps(report, indent=2))
    return int(bool(report["failed"]))


if __name__ == "__main__":
    sys.exit(main())

"""Cost and fault tolerance of Ray, compared with one process on the same cores.

    python -m tests.campaigns.cluster lines/ --seconds 30 --images 20000

Serving: throughput with 64 images per request and latency of sequential requests, from the embedded service with one
model thread per core and from as many replicas of one thread. Then a replica is killed under load; the campaign counts
requests that the client's retries did not save and times the start of the replacement. Bulk: drawn lines are read by
one process, and on Ray with a SIGKILL half-way and a second run; the rows must be equal. Exits with 1 if a request was
lost or the rows differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from linewise.service.bulk.sources import image_files
from linewise.service.cli.load_test import closed_loop
from linewise.service.client import Client, ServiceFailure
from linewise.service.cpu import granted_cores
from tests.campaigns.harness import service
from tests.service.deploy.test_ray_serving import descendants

CORES = granted_cores()
RAY = {
    "RAY_ADDRESS": "local",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "300000000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # that of the embedded service
    "LINEWISE_LOG_LEVEL": "info",
    "LINEWISE_RAY_MIN_REPLICAS": str(CORES),
    "LINEWISE_RAY_MAX_REPLICAS": str(CORES),
}
READY_LOG_MESSAGE = b"ready: model"


def serving(pictures: list[bytes], seconds: float, port: int) -> dict[str, float]:
    """Measure images per second in batches and the latency in ms of sequential requests."""
    url = f"http://127.0.0.1:{port}"
    asyncio.run(closed_loop(url, pictures, clients=2 * CORES, seconds=min(5.0, seconds), batch=64))  # warm-up
    batches = asyncio.run(closed_loop(url, pictures, clients=2 * CORES, seconds=seconds, batch=64))
    alone = asyncio.run(closed_loop(url, pictures, clients=1, seconds=seconds))
    latencies_ms = [1000.0 * exchange.seconds for exchange in alone.exchanges if exchange.status == 200]
    return {
        "images_per_s_in_batches": round(batches.images_per_second, 1),
        "failed": sum(exchange.status != 200 for exchange in batches.exchanges + alone.exchanges),
        "alone_p50_ms": round(statistics.median(latencies_ms), 2),
        "alone_mean_ms": round(statistics.mean(latencies_ms), 2),
    }


def kill_a_replica(pictures: list[bytes], port: int, pid: int, log: Path, seconds: float) -> dict[str, float]:
    """Kill a replica under load and wait for its replacement; returns lost requests and times in seconds."""
    stop = threading.Event()
    answered: list[float] = []
    lost: list[str] = []

    def send(number: int) -> None:
        random = Random(number)
        with Client(f"http://127.0.0.1:{port}", timeout=60) as client:
            while not stop.is_set():
                try:
                    client.read(random.choice(pictures))
                    answered.append(time.monotonic())
                except ServiceFailure as failure:
                    lost.append(str(failure))

    senders = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in senders:
        thread.start()
    time.sleep(seconds / 2)
    ready_before = log.read_bytes().count(READY_LOG_MESSAGE)
    replicas = [child for child, name in descendants(pid).items() if name.startswith("ray::ServeReplica:linewise")]
    killed = time.monotonic()
    os.kill(replicas[0], signal.SIGKILL)
    while log.read_bytes().count(READY_LOG_MESSAGE) == ready_before and time.monotonic() < killed + 300:
        time.sleep(0.05)
    ready = time.monotonic()
    time.sleep(seconds / 2)
    stop.set()
    for thread in senders:
        thread.join()
    moments = sorted([killed, *(moment for moment in answered if moment > killed)])
    return {
        "answered": len(answered),
        "lost": len(lost),
        "seconds_until_warm": round(ready - killed, 2),
        "longest_silence_s": round(max(b - a for a, b in pairwise(moments)), 2),
    }


def draw(folder: Path, images: int) -> None:
    """Draw lines of different lengths, one in a hundred undecodable."""
    folder.mkdir()
    random = Random(0)
    for number in range(images):
        text = " ".join(str(random.randrange(10 ** random.randint(1, 6))) for _ in range(random.randint(1, 6)))
        picture = Image.new("L", (16 + 9 * len(text), 24), 250)
        ImageDraw.Draw(picture).text((4, 4), text, fill=10, font_size=16)
        picture.save(folder / f"{number:06}.png")
        if number % 100 == 99:
            (folder / f"{number:06}.png").write_bytes(b"no picture")


def bulk(folder: Path, images: int) -> dict[str, object]:
    """Read with one process, then on Ray with a kill half-way; returns times and whether the rows are equal."""
    lines, whole, out = folder / "lines", folder / "whole.jsonl", folder / "out.jsonl"
    draw(lines, images)
    command = [sys.executable, "-m", "linewise", "read", str(lines), "--output"]
    environment = os.environ | RAY
    started = time.monotonic()
    subprocess.run([*command, str(whole)], check=True, stderr=subprocess.DEVNULL)
    alone = time.monotonic() - started
    on_ray: Sequence[str] = [*command, str(out), "--engine", "ray"]
    started = time.monotonic()
    process = subprocess.Popen(on_ray, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and (out.read_bytes().count(b"\n") if out.exists() else 0) < images // 2:
        time.sleep(0.2)
    process.kill()
    process.wait()
    first = time.monotonic() - started
    known = out.read_bytes().count(b"\n")
    started = time.monotonic()
    subprocess.run(on_ray, env=environment, check=True, stderr=subprocess.DEVNULL)
    second = time.monotonic() - started
    ids = [json.loads(line)["id"] for line in out.read_bytes().splitlines()]
    return {
        "images": images,
        "one_process_s": round(alone, 1),
        "ray_until_the_kill_s": round(first, 1),
        "rows_at_the_kill": known,
        "ray_after_it_s": round(second, 1),
        "every_id_once": len(ids) == len(set(ids)) == images,
        "same_as_one_process": out.read_bytes() == whole.read_bytes(),
    }


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--images", type=int, default=20_000)
    arguments = parser.parse_args()
    pictures = [Path(name).read_bytes() for name in image_files(arguments.pictures)]
    report: dict[str, object] = {"cores": CORES}
    with tempfile.TemporaryDirectory() as folder:
        with service() as (port, _):
            embedded = serving(pictures, arguments.seconds, port)
        log = Path(folder) / "log"
        with service("--engine", "ray", environment=RAY, log=log) as (port, pid):
            while log.read_bytes().count(READY_LOG_MESSAGE) < CORES:
                time.sleep(0.1)
            on_ray = serving(pictures, arguments.seconds, port)
            killed = kill_a_replica(pictures, port, pid, log, arguments.seconds)
        report |= {"embedded": embedded, "ray": on_ray}
        report["throughput_ratio"] = round(on_ray["images_per_s_in_batches"] / embedded["images_per_s_in_batches"], 3)
        report["ray_costs_ms_a_request"] = round(on_ray["alone_mean_ms"] - embedded["alone_mean_ms"], 2)
        report["replica_killed"] = killed
        rows = bulk(Path(folder), arguments.images)
        report["bulk"] = rows
    print(json.dumps(report, indent=2))
    return int(killed["lost"] > 0 or not rows["every_id_once"] or not rows["same_as_one_process"])


if __name__ == "__main__":
    sys.exit(main())

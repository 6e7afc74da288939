"""What Ray costs, and what it survives, against one process on the same cores.

    python -m tests.campaigns.cluster lines/ --seconds 30 --images 20000

Serving, with the pictures of a folder: images per second of 64 in a request, and the time of one request after the
other, both from the embedded service with a model thread for each core and from as many replicas of one thread. Then a
replica is killed under load: how many requests the client's own retries did not make good, and how long until the
model of its successor was warm. Bulk: so many drawn lines read by one process, and on Ray with a kill -9 half-way and a
second run; the rows must be the same. Exits with 1 when a request was lost or the rows differ.
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
from linewise.service.inference.cpu import granted_cores
from tests.campaigns.harness import service
from tests.service.test_ray_serving import descendants

CORES = granted_cores()
RAY = {
    "RAY_ADDRESS": "local",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "300000000",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # as the embedded service
    "LINEWISE_LOG_LEVEL": "info",
    "LINEWISE_RAY_MIN_REPLICAS": str(CORES),
    "LINEWISE_RAY_MAX_REPLICAS": str(CORES),
}
WARM = b"ready: model"  # what a replica logs when it is


def serving(pictures: list[bytes], seconds: float, port: int) -> dict[str, float]:
    """Images per second in batches, and milliseconds of a request when there is one at a time."""
    url = f"http://127.0.0.1:{port}"
    asyncio.run(closed_loop(url, pictures, clients=2 * CORES, seconds=min(5.0, seconds), batch=64))  # warms it up
    batches = asyncio.run(closed_loop(url, pictures, clients=2 * CORES, seconds=seconds, batch=64))
    alone = asyncio.run(closed_loop(url, pictures, clients=1, seconds=seconds))
    times = [1000.0 * one.seconds for one in alone.exchanges if one.status == 200]
    return {
        "images_per_s_in_batches": round(batches.images_per_second, 1),
        "failed": sum(one.status != 200 for one in batches.exchanges + alone.exchanges),
        "alone_p50_ms": round(statistics.median(times), 2),
        "alone_mean_ms": round(statistics.mean(times), 2),
    }


def kill_a_replica(pictures: list[bytes], port: int, pid: int, log: Path, seconds: float) -> dict[str, float]:
    """Kills one under load and waits for its successor; what was lost, and how long that took."""
    over = threading.Event()
    answered: list[float] = []
    lost: list[str] = []

    def ask(number: int) -> None:
        random = Random(number)
        with Client(f"http://127.0.0.1:{port}", timeout=60) as client:
            while not over.is_set():
                try:
                    client.read(random.choice(pictures))
                    answered.append(time.monotonic())
                except ServiceFailure as failure:
                    lost.append(str(failure))

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in asking:
        thread.start()
    time.sleep(seconds / 2)
    warm = log.read_bytes().count(WARM)
    replicas = [one for one, name in descendants(pid).items() if name.startswith("ray::ServeReplica:linewise")]
    killed = time.monotonic()
    os.kill(replicas[0], signal.SIGKILL)
    while log.read_bytes().count(WARM) == warm and time.monotonic() < killed + 300:
        time.sleep(0.05)
    ready = time.monotonic()
    time.sleep(seconds / 2)
    over.set()
    for thread in asking:
        thread.join()
    near = sorted([killed, *(moment for moment in answered if moment > killed)])
    return {
        "answered": len(answered),
        "lost": len(lost),
        "seconds_until_warm": round(ready - killed, 2),
        "longest_silence_s": round(max(b - a for a, b in pairwise(near)), 2),
    }


def draw(folder: Path, images: int) -> None:
    """Lines of different lengths, one of a hundred broken."""
    folder.mkdir()
    random = Random(0)
    for number in range(images):
        text = " ".join(str(random.randrange(10 ** random.randint(1, 6))) for _ in range(random.randint(1, 6)))
        picture = Image.new("L", (16 + 9 * len(text), 24), 250)
        ImageDraw.Draw(picture).text((4, 4), text, fill=10, font_size=16)
        picture.save(folder / f"{number:06}.png")
        if number % 100 == 99:
            (folder / f"{number:06}.png").write_bytes(b"no picture")


def bulk(place: Path, images: int) -> dict[str, object]:
    """One process, then Ray, cut half-way: the times, and whether the rows are the same."""
    folder, whole, out = place / "lines", place / "whole.jsonl", place / "out.jsonl"
    draw(folder, images)
    command = [sys.executable, "-m", "linewise", "read", str(folder), "--output"]
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
    rows = [json.loads(line)["id"] for line in out.read_bytes().splitlines()]
    return {
        "images": images,
        "one_process_s": round(alone, 1),
        "ray_until_the_kill_s": round(first, 1),
        "rows_at_the_kill": known,
        "ray_after_it_s": round(second, 1),
        "every_id_once": len(rows) == len(set(rows)) == images,
        "same_as_one_process": out.read_bytes() == whole.read_bytes(),
    }


def main() -> int:
    """The campaign as a command; 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--images", type=int, default=20_000)
    chosen = parser.parse_args()
    pictures = [Path(name).read_bytes() for name in image_files(chosen.pictures)]
    account: dict[str, object] = {"cores": CORES}
    with tempfile.TemporaryDirectory() as place:
        with service() as (port, _):
            embedded = serving(pictures, chosen.seconds, port)
        log = Path(place) / "log"
        with service("--engine", "ray", environment=RAY, log=log) as (port, pid):
            while log.read_bytes().count(WARM) < CORES:
                time.sleep(0.1)
            on_ray = serving(pictures, chosen.seconds, port)
            killed = kill_a_replica(pictures, port, pid, log, chosen.seconds)
        account |= {"embedded": embedded, "ray": on_ray}
        account["throughput_ratio"] = round(on_ray["images_per_s_in_batches"] / embedded["images_per_s_in_batches"], 3)
        account["ray_costs_ms_a_request"] = round(on_ray["alone_mean_ms"] - embedded["alone_mean_ms"], 2)
        account["replica_killed"] = killed
        read = bulk(Path(place), chosen.images)
        account["bulk"] = read
    print(json.dumps(account, indent=2))
    return int(killed["lost"] > 0 or not read["every_id_once"] or not read["same_as_one_process"])


if __name__ == "__main__":
    sys.exit(main())

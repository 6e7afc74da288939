"""Search for lost requests under failures of the model and of clients.

    python -m tests.campaigns.lost --requests 10000

Starts a service with a recogniser that fails on demand. Sends requests in every form: valid and truncated, abandoned,
sent and received slowly, with failures in each stage. From time to time the model thread is killed and a new process
started. The campaign fails if a request that arrived gets no response, an incomplete or a wrong one, or that of another
request; if the gauges of the service do not return to 0; if shutdown waits for a request that is gone; or if the log
holds a key, a text, a file name or a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.campaigns.faulty import SECRET, Fault, arrived_ids, picture, text_of
from tests.campaigns.harness import TIMEOUT_S, free_port, start

KEY = "key-of-the-campaign-4711"
NAME = "name-of-a-file"
HARMLESS = (Fault.NONE, Fault.NONE, Fault.NONE, Fault.NONE, Fault.SLOW, Fault.FORWARD, Fault.MEMORY, Fault.ANSWER)
# Documented error codes: by fault, under load or during shutdown, and for truncated pictures.
CODES = {
    Fault.NONE: set[str](), Fault.SLOW: set[str](), Fault.MEMORY: set[str](), Fault.FORWARD: {"internal"},
    Fault.ANSWER: {"internal"}, Fault.DEATH: {"not_ready"},
}  # fmt: skip
ANYTIME = {"queue_full", "deadline_exceeded", "not_ready", "draining"}
CUT = {"undecodable", "unsupported_image", "bad_request"}
BURST_SIZE = 64  # requests in flight when the model thread is killed
SLOW_CLIENT_PAUSE_S = 0.2  # between chunks; a whole body takes longer than a shutdown that does not wait


@dataclass(frozen=True)
class Request:
    """A request: its bytes, its expected results and the behaviour of its client."""

    id: str
    head: bytes
    body: bytes
    expected: tuple[tuple[int, Fault, bool], ...]  # of each picture: number, fault, whether it is truncated
    stream: bool
    leaves: float | None  # the client disconnects after this share of the body, or at 1 + s, s seconds after it
    pause: float  # seconds between the chunks of a slow client


@dataclass
class Tally:
    """Outcomes of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: set[str] = field(default_factory=set)  # ids; lost if they reached the service
    wrong: list[str] = field(default_factory=list)


def request(random: Random, number: int, fault: Fault | None = None, pause: float = 0.002) -> Request:
    """Build a request by its number.

    ``fault`` is that of the first picture, random if None; ``pause`` is that of slow clients in seconds.
    """
    is_batch = random.random() < 0.4
    expected, pictures = [], []
    for place in range(random.randint(1, 8) if is_batch else 1):
        own_fault = random.choice(HARMLESS) if fault is None or place else fault
        cut = random.random() < 0.1 and own_fault is not Fault.DEATH
        data = picture(number * 8 + place, own_fault, random.choice((40, 64, 100, 300)))
        pictures.append(data[: random.randint(1, len(data) // 2)] if cut else data)
        expected.append((number * 8 + place, own_fault, cut))
    stream = is_batch and random.random() < 0.5
    path = "/recognize/batch" if is_batch else "/recognize"
    if random.random() < 0.3:
        encoded = [{"image": base64.b64encode(data).decode()} for data in pictures]
        content_type, body = "application/json", json.dumps({"images": encoded} if is_batch else encoded[0]).encode()
    else:
        part = f'--B\r\nContent-Disposition: form-data; name="{"files" if is_batch else "file"}"; filename="{NAME}"'
        parts = [f"{part}\r\n\r\n".encode() + data + b"\r\n" for data in pictures]
        content_type, body = "multipart/form-data; boundary=B", b"".join(parts) + b"--B--\r\n"
    head = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"X-API-Key: {KEY}", f"X-Request-ID: {number}"]
    head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    head += ["Accept: application/x-ndjson"] * stream
    head += ["X-Request-Timeout: 0.001"] * (random.random() < 0.05 and fault is None)
    leaves = random.choice((random.random(), 1 + random.random() * 0.02)) if random.random() < 0.15 else None
    pause *= random.random() < 0.2
    if fault is Fault.DEATH:  # sent at once, while the other requests are in flight
        leaves, pause = None, 0.0
    return Request(str(number), "\r\n".join([*head, "", ""]).encode(), body, tuple(expected), stream, leaves, pause)


async def exchange(port: int, sent: Request) -> bytes | None:
    """Send a request and return the whole response, None if the client disconnected.

    Raises:
        OSError: the connection failed.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent.head)
        body = sent.body if sent.leaves is None else sent.body[: int(len(sent.body) * min(1.0, sent.leaves))]
        step = 100 if sent.pause else len(body) + 1
        for start in range(0, len(body), step):
            writer.write(body[start : start + step])
            await writer.drain()
            await asyncio.sleep(sent.pause)
        if sent.leaves is not None:
            await asyncio.sleep(max(0.0, sent.leaves - 1.0))
            return None
        answer = b""
        while data := await reader.read(50 if sent.pause else 65536):
            answer += data
            await asyncio.sleep(0.001 if sent.pause else 0)
        return answer
    finally:
        writer.close()


def parse_response(answer: bytes) -> tuple[int, bytes] | None:
    """Return status and body of a response, None for an incomplete one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        return (int(head.split(b" ", 2)[1]), body) if len(body) == int(fields[b"content-length"]) else None
    decoded = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        if size == b"0":
            return int(head.split(b" ", 2)[1]), decoded
        decoded, body = decoded + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return None


def find_fault(sent: Request, answer: bytes) -> str | None:
    """Describe the fault of a response, None if it is correct."""
    complete = parse_response(answer)
    if complete is None:
        return "incomplete"
    status, body = complete
    allowed = [ANYTIME | CODES[fault] | (CUT if cut else set()) for _, fault, cut in sent.expected]
    texts = [None if cut or CODES[fault] else text_of(number) for number, fault, cut in sent.expected]
    if status != 200:
        try:
            code = json.loads(body)["code"]
        except ValueError:
            return f"{status} without a problem"
        return None if code in (allowed[0] if len(texts) == 1 else ANYTIME) else f"{status} {code}"
    if sent.stream:
        *results, last = [json.loads(line) for line in body.splitlines()]
        results.sort(key=lambda result: result["index"])
        if "summary" not in last:
            return "a stream without its end"
    else:
        document = json.loads(body)
        results = document.get("results", [document])
    if len(results) != len(texts):
        return f"{len(results)} answers to {len(texts)} pictures"
    for result, text, codes in zip(results, texts, allowed, strict=True):
        if result["error"]["code"] not in codes if "error" in result else result["text"] != text:
            return f"{result} instead of {text}"
    return None


async def send_all(port: int, requests: list[Request], clients: int, tally: Tally) -> None:
    """Send requests with ``clients`` concurrent clients and add the outcomes to the tally."""
    waiting = iter(requests)

    async def client() -> None:
        for sent in waiting:
            try:
                answer = await asyncio.wait_for(exchange(port, sent), TIMEOUT_S)
            except OSError as error:  # TimeoutError is one
                tally.unanswered.add(sent.id)
                tally.outcomes[type(error).__name__] += 1
                continue
            if answer is None:
                tally.outcomes["left"] += 1
            elif not answer:
                tally.unanswered.add(sent.id)
                tally.outcomes["closed"] += 1
            elif problem := find_fault(sent, answer):
                tally.wrong.append(f"{sent.id}: {problem}")
            else:
                tally.outcomes[answer.split(b" ", 2)[1].decode()] += 1

    await asyncio.gather(*(client() for _ in range(clients)))


def gauges(port: int) -> dict[str, float]:
    """Return the numbers of images in flight and in the queue, once both are 0 or after a timeout."""
    metrics = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"X-API-Key": KEY})
    deadline = time.monotonic() + TIMEOUT_S / 4
    while True:
        with urllib.request.urlopen(metrics) as answer:
            lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
        values = {name: float(value) for name, value in lines if name in ("linewise_in_flight", "linewise_queue_depth")}
        if not any(values.values()) or time.monotonic() > deadline:
            return values
        time.sleep(0.02)


def leaked(log: bytes) -> list[str]:
    """List the kinds of confidential data that a log holds."""
    secrets = {"a key": KEY.encode(), "a text": SECRET.encode(), "a file's name": NAME.encode(), "a picture": b"IHDR",
               "an encoded picture": base64.b64encode(picture(0))[:20]}  # fmt: skip
    return [name for name, secret in secrets.items() if secret in log]


def deadly_burst(seed: int, numbers: Iterator[int]) -> list[Request]:
    """Build requests with slow clients, the middle one of which kills the model thread."""
    faults = (Fault.DEATH if place == BURST_SIZE // 2 else None for place in range(BURST_SIZE))
    return [
        request(Random(f"{seed}/{number}"), number, fault, SLOW_CLIENT_PAUSE_S)
        for fault, number in zip(faults, numbers)  # noqa: B905
    ]


def run(requests: int, kills: int, seed: int, clients: int, log: Path) -> dict[str, object]:
    """Send ``requests`` requests with ``kills`` kills of the model thread; returns the report."""
    tally = Tally()
    port = free_port()
    settings = {"LINEWISE_API_KEYS": KEY, "LINEWISE_THREADS": "1", "LINEWISE_LOG_LEVEL": "debug"}
    not_zero: list[dict[str, float]] = []
    exits: list[int] = []
    lost: set[str] = set()
    numbers = iter(range(requests))
    for epoch in range(kills + 1):
        process = start(port, ("-m", "tests.campaigns.faulty"), log, settings)
        try:
            share = requests // (kills + 1) - (BURST_SIZE if epoch < kills else 0)
            ordinary = [request(Random(f"{seed}/{number}"), number) for number, _ in zip(numbers, range(share))]  # noqa: B905
            asyncio.run(send_all(port, ordinary, clients, tally))
            lost |= tally.unanswered  # the service ran all the time
            values = gauges(port)
            not_zero += [values] * any(values.values())
            if epoch < kills:
                tally.unanswered.clear()
                asyncio.run(send_all(port, deadly_burst(seed, numbers), BURST_SIZE, tally))
                exits.append(process.wait(TIMEOUT_S))
                lost |= tally.unanswered & arrived_ids(log.read_bytes())
                tally.unanswered.clear()
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
    written = log.read_bytes()
    leaks, waited = leaked(written), written.count(b"did not end within")
    return {
        "requests": requests, "kills": kills, "outcomes": dict(sorted(tally.outcomes.items())),
        "lost": sorted(lost), "wrong": tally.wrong[:20], "gauges_not_zero": not_zero, "exits": exits,
        "in_the_log": leaks, "ends_that_waited_for_nobody": waited,
        "failed": bool(lost or tally.wrong or not_zero or leaks or waited) or any(code != 1 for code in exits),
    }  # fmt: skip


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.requests, arguments.kills, arguments.seed, arguments.clients, Path(folder) / "log")
    print(json.dumps(report, indent=2))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

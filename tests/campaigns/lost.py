"""Whether a request is ever lost, whatever fails and whoever leaves.

    python -m tests.campaigns.lost --requests 10000

starts a service around a recogniser that fails on demand and sends it requests in every form: whole and broken, given
up half-way, sent and taken slowly, with failures in each stage. Every so often the model's thread is killed in the
middle of it, and a new process takes over. It fails when a request that arrived got no answer, an incomplete or a wrong
one, or that of another; when the gauges of the service do not return to 0, or it waits in the end for a request that is
gone; and when its log holds a key, a text, a file's name or a picture.
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
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.campaigns.faulty import SECRET, Fault, picture, text_of
from tests.campaigns.harness import PATIENCE, free_port, start

KEY = "key-of-the-campaign-4711"
NAME = "name-of-a-file"
HARMLESS = (Fault.NONE, Fault.NONE, Fault.NONE, Fault.NONE, Fault.SLOW, Fault.FORWARD, Fault.MEMORY, Fault.ANSWER)
# What the contract allows to be said instead of an answer: about the picture, about the load, about an end.
CODES = {
    Fault.NONE: set[str](), Fault.SLOW: set[str](), Fault.MEMORY: set[str](), Fault.FORWARD: {"internal"},
    Fault.ANSWER: {"internal"}, Fault.DEATH: {"not_ready"},
}  # fmt: skip
ANYTIME = {"queue_full", "deadline_exceeded", "not_ready", "draining"}
CUT = {"undecodable", "unsupported_image", "bad_request"}
BURST = 64  # requests that are under way when the thread is killed
DAWDLE = 0.2  # seconds between the pieces of some of them: in all, longer than a server takes to end that does not wait


@dataclass(frozen=True)
class Request:
    """One request: its bytes on the wire, and how it is sent and answered."""

    id: str
    head: bytes
    body: bytes
    expected: tuple[tuple[int, Fault, bool], ...]  # of each picture: number, fault, whether it is cut short
    stream: bool
    leaves: float | None  # share of the body after which, or 1 plus seconds after all of it, the client leaves
    pause: float  # seconds between the pieces in which a slow client sends


@dataclass
class Account:
    """What became of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: set[str] = field(default_factory=set)  # their ids; lost if they arrived
    wrong: list[str] = field(default_factory=list)


def request(random: Random, number: int, fault: Fault | None = None, pause: float = 0.002) -> Request:
    """A request by its number; ``fault`` is that of its first picture, drawn when None; ``pause`` that of slow ones."""
    several = random.random() < 0.4
    expected, pictures = [], []
    for place in range(random.randint(1, 8) if several else 1):
        chosen = random.choice(HARMLESS) if fault is None or place else fault
        cut = random.random() < 0.1 and chosen is not Fault.DEATH
        data = picture(number * 8 + place, chosen, random.choice((40, 64, 100, 300)))
        pictures.append(data[: random.randint(1, len(data) // 2)] if cut else data)
        expected.append((number * 8 + place, chosen, cut))
    stream = several and random.random() < 0.5
    path = "/recognize/batch" if several else "/recognize"
    if random.random() < 0.3:
        encoded = [{"image": base64.b64encode(data).decode()} for data in pictures]
        content_type, body = "application/json", json.dumps({"images": encoded} if several else encoded[0]).encode()
    else:
        part = f'--B\r\nContent-Disposition: form-data; name="{"files" if several else "file"}"; filename="{NAME}"'
        parts = [f"{part}\r\n\r\n".encode() + data + b"\r\n" for data in pictures]
        content_type, body = "multipart/form-data; boundary=B", b"".join(parts) + b"--B--\r\n"
    head = [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"X-API-Key: {KEY}", f"X-Request-ID: {number}"]
    head += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    head += ["Accept: application/x-ndjson"] * stream
    head += ["X-Request-Timeout: 0.001"] * (random.random() < 0.05 and fault is None)
    leaves = random.choice((random.random(), 1 + random.random() * 0.02)) if random.random() < 0.15 else None
    pause *= random.random() < 0.2
    if fault is Fault.DEATH:  # at once, while the others are on their way, and to the end
        leaves, pause = None, 0.0
    return Request(str(number), "\r\n".join([*head, "", ""]).encode(), body, tuple(expected), stream, leaves, pause)


async def exchange(port: int, sent: Request) -> bytes | None:
    """The whole answer, None when the client left. Raises ``OSError`` when the connection fails."""
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


def taken_apart(answer: bytes) -> tuple[int, bytes] | None:
    """Status and body of a complete answer, None of an incomplete one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"content-length" in fields:
        return (int(head.split(b" ", 2)[1]), body) if len(body) == int(fields[b"content-length"]) else None
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        if size == b"0":
            return int(head.split(b" ", 2)[1]), whole
        whole, body = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return None


def complaint(sent: Request, answer: bytes) -> str | None:
    """What is wrong with an answer, if anything."""
    complete = taken_apart(answer)
    if complete is None:
        return "cut short"
    status, body = complete
    allowed = [ANYTIME | CODES[fault] | (CUT if cut else set()) for _, fault, cut in sent.expected]
    wanted = [None if cut or CODES[fault] else text_of(number) for number, fault, cut in sent.expected]
    if status != 200:
        try:
            code = json.loads(body)["code"]
        except ValueError:
            return f"{status} without a problem"
        return None if code in (allowed[0] if len(wanted) == 1 else ANYTIME) else f"{status} {code}"
    if sent.stream:
        *results, last = [json.loads(line) for line in body.splitlines()]
        results.sort(key=lambda one: one["index"])
        if "summary" not in last:
            return "a stream without its end"
    else:
        document = json.loads(body)
        results = document.get("results", [document])
    if len(results) != len(wanted):
        return f"{len(results)} answers to {len(wanted)} pictures"
    for one, text, codes in zip(results, wanted, allowed, strict=True):
        if one["error"]["code"] not in codes if "error" in one else one["text"] != text:
            return f"{one} instead of {text}"
    return None


async def send_all(port: int, requests: list[Request], clients: int, account: Account) -> None:
    """Send requests with so many clients at the same time, and enter into the account what became of them."""
    waiting = iter(requests)

    async def client() -> None:
        for sent in waiting:
            try:
                answer = await asyncio.wait_for(exchange(port, sent), PATIENCE)
            except OSError as error:  # TimeoutError is one
                account.unanswered.add(sent.id)
                account.outcomes[type(error).__name__] += 1
                continue
            if answer is None:
                account.outcomes["left"] += 1
            elif not answer:
                account.unanswered.add(sent.id)
                account.outcomes["closed"] += 1
            elif problem := complaint(sent, answer):
                account.wrong.append(f"{sent.id}: {problem}")
            else:
                account.outcomes[answer.split(b" ", 2)[1].decode()] += 1

    await asyncio.gather(*(client() for _ in range(clients)))


def gauges(port: int) -> dict[str, float]:
    """Images in flight and in the queue, once both are 0 or enough time has passed for that."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"X-API-Key": KEY})
    deadline = time.monotonic() + PATIENCE / 4
    while True:
        with urllib.request.urlopen(asked) as answer:
            lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
        found = {name: float(value) for name, value in lines if name in ("linewise_in_flight", "linewise_queue_depth")}
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def leaked(log: bytes) -> list[str]:
    """What a log holds of the things that belong in none."""
    secrets = {"a key": KEY.encode(), "a text": SECRET.encode(), "a file's name": NAME.encode(), "a picture": b"IHDR",
               "an encoded picture": base64.b64encode(picture(0))[:20]}  # fmt: skip
    return [name for name, secret in secrets.items() if secret in log]


def run(requests: int, kills: int, seed: int, clients: int, log: Path) -> dict[str, object]:
    """Sends so many requests, the thread being killed so often; the account of it."""
    account = Account()
    port = free_port()
    settings = {"LINEWISE_API_KEYS": KEY, "LINEWISE_THREADS": "1", "LINEWISE_LOG_LEVEL": "debug"}
    not_zero: list[dict[str, float]] = []
    exits: list[int] = []
    lost: set[str] = set()
    numbers = iter(range(requests))
    for epoch in range(kills + 1):
        process = start(port, ("-m", "tests.campaigns.faulty"), log, settings)
        try:
            share = requests // (kills + 1) - (BURST if epoch < kills else 0)
            ordinary = [request(Random(f"{seed}/{number}"), number) for number, _ in zip(numbers, range(share))]  # noqa: B905
            asyncio.run(send_all(port, ordinary, clients, account))
            lost |= account.unanswered  # the service was there all the time
            found = gauges(port)
            not_zero += [found] * any(found.values())
            if epoch < kills:
                account.unanswered.clear()
                burst = [
                    request(Random(f"{seed}/{number}"), number, Fault.DEATH if place == BURST // 2 else None, DAWDLE)
                    for place, number in zip(range(BURST), numbers)  # noqa: B905
                ]
                asyncio.run(send_all(port, burst, BURST, account))
                exits.append(process.wait(PATIENCE))
                arrived = {
                    line.split()[1].decode() for line in log.read_bytes().splitlines() if line[:8] == b"arrived "
                }
                lost |= account.unanswered & arrived
                account.unanswered.clear()
        finally:
            process.terminate()
            process.wait(PATIENCE)
    written = log.read_bytes()
    leaks, waited = leaked(written), written.count(b"did not end within")
    return {
        "requests": requests, "kills": kills, "outcomes": dict(sorted(account.outcomes.items())),
        "lost": sorted(lost), "wrong": account.wrong[:20], "gauges_not_zero": not_zero, "exits": exits,
        "in_the_log": leaks, "ends_that_waited_for_nobody": waited,
        "failed": bool(lost or account.wrong or not_zero or leaks or waited) or any(code != 1 for code in exits),
    }  # fmt: skip


def main() -> int:
    """The campaign as a command; 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=32)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        account = run(chosen.requests, chosen.kills, chosen.seed, chosen.clients, Path(folder) / "log")
    print(json.dumps(account, indent=2))
    return 1 if account["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

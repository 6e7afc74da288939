"""Rolling restarts of two replicas under load.

    python -m tests.campaigns.restart --restarts 20

Starts two replicas, and clients that send without pause to a ready one, on new and on kept connections; restarts one
replica after the other. The campaign fails if a request that arrived gets no response or a wrong one, if a process does
not exit with 0, or, while replicas drain before they close their ports, if any connection is refused or reset. In the
second round replicas close their ports at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.campaigns.faulty import Fault, arrived_ids, picture, text_of
from tests.campaigns.harness import TIMEOUT_S, free_port, start

PROGRAM = ("-m", "tests.campaigns.faulty")
POLL_INTERVAL_S = 0.05  # of the readiness of replicas
DRAIN_DELAY_S = 1.0  # many polls, also on a busy machine

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Tally:
    """Outcomes of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: set[str] = field(default_factory=set)  # ids; lost if they reached the service
    failures: list[str] = field(default_factory=list)  # of connections
    wrong: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)


class Balancer:
    """Load balancer that polls the readiness of replicas."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.ready: set[int] = set(ports)

    async def watch(self) -> None:
        """Poll until cancelled."""
        while True:
            for port in self.ports:
                try:
                    status, _ = await exchange(await asyncio.open_connection("127.0.0.1", port), b"GET /healthz/ready")
                except (OSError, asyncio.IncompleteReadError):
                    status = 0
                (self.ready.add if status == 200 else self.ready.discard)(port)
            await asyncio.sleep(POLL_INTERVAL_S)


async def exchange(connection: Connection, head: bytes, body: bytes = b"", keep: bool = False) -> tuple[int, bytes]:
    """Send a request and return status and body of the response.

    ``head`` is the first line of the request without the version, and any headers.

    Raises:
        OSError: the connection failed.
        IncompleteReadError: the response is incomplete.
    """
    reader, writer = connection
    first, _, headers = head.partition(b"\r\n")
    length = b"Content-Length: %d\r\nConnection: %b" % (len(body), b"keep-alive" if keep else b"close")
    try:
        writer.write(b"%b HTTP/1.1\r\nHost: x\r\n%b%b\r\n\r\n%b" % (first, headers, length, body))
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
        response = int(answer.split(b" ", 2)[1]), await reader.readexactly(int(fields[b"content-length"]))
        keep = keep and fields.get(b"connection") != b"close"
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            writer.close()
    return response


async def client(number: int, balancer: Balancer, tally: Tally, stopping: asyncio.Event) -> None:
    """Send one request after the other until ``stopping`` is set; repeat refused ones."""
    random = Random(number)
    keeps = number % 2 == 0
    kept: dict[int, Connection] = {}
    sent = 0
    while not stopping.is_set():
        sent += 1
        value = number * 1_000_000 + sent
        body = picture(value, random.choice((Fault.NONE, Fault.NONE, Fault.SLOW)))
        tries = 0
        while True:
            for gone in kept.keys() - balancer.ready:
                kept.pop(gone)[1].close()
            ready = sorted(balancer.ready)
            if not ready:
                tally.wrong.append(f"{value}: no replica is ready")
                return
            port = random.choice(ready)
            tries += 1
            head = f"POST /recognize\r\nContent-Type: image/png\r\nX-Request-ID: {value}-{tries}\r\n".encode()
            try:
                connection = kept.pop(port, None) or await asyncio.open_connection("127.0.0.1", port)
                status, answer = await asyncio.wait_for(exchange(connection, head, body, keeps), TIMEOUT_S)
            except (OSError, asyncio.IncompleteReadError) as error:
                tally.outcomes[type(error).__name__] += 1
                tally.failures.append(f"{value}: {type(error).__name__}")
                tally.unanswered.add(f"{value}-{tries}")
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            if keeps and not connection[1].is_closing():
                kept[port] = connection
            tally.outcomes[str(status)] += 1
            if status == 503 and json.loads(answer)["code"] == "draining":
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            if status != 200 or json.loads(answer)["text"] != text_of(value):
                tally.wrong.append(f"{value}: {status} {answer[:200]!r}")
            break
    for _, writer in kept.values():
        writer.close()


async def roll(ports: list[int], restarts: int, clients: int, log: Path, settings: dict[str, str]) -> Tally:
    """Restart the replicas in turn while the clients send."""
    tally = Tally()
    replicas: dict[int, subprocess.Popen[bytes]] = {}
    stopping = asyncio.Event()
    balancer = Balancer(ports)
    try:
        for port in ports:
            replicas[port] = await asyncio.to_thread(start, port, PROGRAM, log, settings)
        watching = asyncio.create_task(balancer.watch())
        sending = [asyncio.create_task(client(number, balancer, tally, stopping)) for number in range(clients)]
        for number in range(restarts):
            port = ports[number % len(ports)]
            await asyncio.sleep(0.3)
            replicas[port].send_signal(signal.SIGTERM)
            tally.exits.append(await asyncio.to_thread(replicas[port].wait, TIMEOUT_S))
            replicas[port] = await asyncio.to_thread(start, port, PROGRAM, log, settings)
            while port not in balancer.ready:
                await asyncio.sleep(POLL_INTERVAL_S)
        stopping.set()
        await asyncio.gather(*sending)
        watching.cancel()
    finally:
        for process in replicas.values():
            process.kill()
            process.wait(TIMEOUT_S)
    return tally


def run(restarts: int, clients: int, delay: float, log: Path) -> dict[str, object]:
    """Restart replicas that drain for ``delay`` seconds before they close their ports; returns the report."""
    settings = {"LINEWISE_DRAIN_DELAY": str(delay), "LINEWISE_THREADS": "1"}
    tally = asyncio.run(roll([free_port(), free_port()], restarts, clients, log, settings))
    lost = sorted(tally.unanswered & arrived_ids(log.read_bytes()))
    failures = tally.failures if delay else []
    return {
        "restarts": restarts,
        "drain_delay_s": delay,
        "outcomes": dict(sorted(tally.outcomes.items())),
        "lost": lost,
        "connection_failures": failures[:20],
        "wrong": tally.wrong[:20],
        "exits": tally.exits,
        "failed": bool(lost or failures or tally.wrong or any(tally.exits)),
    }


def main() -> int:
    """Run the campaign from the command line; returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    reports = []
    for delay in (DRAIN_DELAY_S, 0.0):
        with tempfile.TemporaryDirectory() as folder:
            reports.append(run(arguments.restarts, arguments.clients, delay, Path(folder) / "log"))
    print(json.dumps(reports, indent=2))
    return 1 if any(report["failed"] for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether a rolling restart under load costs anybody an answer.

    python -m tests.campaigns.restart --restarts 20

starts two replicas and clients that send without pause to whichever is ready, on new connections and on kept ones, and
restarts one replica after the other. It fails when a request that arrived got no answer or a wrong one, when a process
does not end with 0, and, as long as a replica says that it drains before it closes its port, when any connection is
refused or reset at all. A second round closes the ports at once.
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

from tests.campaigns.faulty import Fault, picture, text_of
from tests.campaigns.harness import PATIENCE, free_port, start

PROGRAM = ("-m", "tests.campaigns.faulty")
POLL = 0.05  # seconds between two looks at whether a replica is ready
DELAY = 1.0  # seconds that a replica drains before it closes its port: enough looks, also on a busy machine

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Account:
    """What became of the requests."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unanswered: set[str] = field(default_factory=set)  # their ids; lost if they arrived
    failures: list[str] = field(default_factory=list)  # of connections
    wrong: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)


class Balancer:
    """Knows which replicas are ready, as a load balancer does: by asking now and then."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.ready: set[int] = set(ports)

    async def watch(self) -> None:
        """Ask until cancelled."""
        while True:
            for port in self.ports:
                try:
                    status, _ = await exchange(await asyncio.open_connection("127.0.0.1", port), b"GET /healthz/ready")
                except (OSError, asyncio.IncompleteReadError):
                    status = 0
                (self.ready.add if status == 200 else self.ready.discard)(port)
            await asyncio.sleep(POLL)


async def exchange(connection: Connection, head: bytes, body: bytes = b"", keep: bool = False) -> tuple[int, bytes]:
    """Status and body of an answer. Raises ``OSError`` and ``IncompleteReadError`` when there is none, or half of one.

    ``head`` is the request's first line without the version, and any headers.
    """
    reader, writer = connection
    first, _, headers = head.partition(b"\r\n")
    length = b"Content-Length: %d\r\nConnection: %b" % (len(body), b"keep-alive" if keep else b"close")
    try:
        writer.write(b"%b HTTP/1.1\r\nHost: x\r\n%b%b\r\n\r\n%b" % (first, headers, length, body))
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:-2])
        found = int(answer.split(b" ", 2)[1]), await reader.readexactly(int(fields[b"content-length"]))
        keep = keep and fields.get(b"connection") != b"close"
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            writer.close()
    return found


async def client(number: int, balancer: Balancer, account: Account, stopping: asyncio.Event) -> None:
    """Send one request after the other until told to stop; refused ones are sent again."""
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
                account.wrong.append(f"{value}: no replica is ready")
                return
            port = random.choice(ready)
            tries += 1
            head = f"POST /recognize\r\nContent-Type: image/png\r\nX-Request-ID: {value}-{tries}\r\n".encode()
            try:
                connection = kept.pop(port, None) or await asyncio.open_connection("127.0.0.1", port)
                status, answer = await asyncio.wait_for(exchange(connection, head, body, keeps), PATIENCE)
            except (OSError, asyncio.IncompleteReadError) as error:
                account.outcomes[type(error).__name__] += 1
                account.failures.append(f"{value}: {type(error).__name__}")
                account.unanswered.add(f"{value}-{tries}")
                await asyncio.sleep(POLL)
                continue
            if keeps and not connection[1].is_closing():
                kept[port] = connection
            account.outcomes[str(status)] += 1
            if status == 503 and json.loads(answer)["code"] == "draining":
                await asyncio.sleep(POLL)
                continue
            if status != 200 or json.loads(answer)["text"] != text_of(value):
                account.wrong.append(f"{value}: {status} {answer[:200]!r}")
            break
    for _, writer in kept.values():
        writer.close()


async def roll(ports: list[int], restarts: int, clients: int, log: Path, settings: dict[str, str]) -> Account:
    """Restart the replicas in turn while the clients send; the account of it."""
    account = Account()
    replicas: dict[int, subprocess.Popen[bytes]] = {}
    stopping = asyncio.Event()
    balancer = Balancer(ports)
    try:
        for port in ports:
            replicas[port] = await asyncio.to_thread(start, port, PROGRAM, log, settings)
        watching = asyncio.create_task(balancer.watch())
        sending = [asyncio.create_task(client(number, balancer, account, stopping)) for number in range(clients)]
        for number in range(restarts):
            port = ports[number % len(ports)]
            await asyncio.sleep(0.3)
            replicas[port].send_signal(signal.SIGTERM)
            account.exits.append(await asyncio.to_thread(replicas[port].wait, PATIENCE))
            replicas[port] = await asyncio.to_thread(start, port, PROGRAM, log, settings)
            while port not in balancer.ready:
                await asyncio.sleep(POLL)
        stopping.set()
        await asyncio.gather(*sending)
        watching.cancel()
    finally:
        for process in replicas.values():
            process.kill()
            process.wait(PATIENCE)
    return account


def run(restarts: int, clients: int, delay: float, log: Path) -> dict[str, object]:
    """So many restarts of replicas that drain for ``delay`` seconds before they close; the account of it."""
    settings = {"LINEWISE_DRAIN_DELAY": str(delay), "LINEWISE_THREADS": "1"}
    account = asyncio.run(roll([free_port(), free_port()], restarts, clients, log, settings))
    arrived = {line.split()[1].decode() for line in log.read_bytes().splitlines() if line[:8] == b"arrived "}
    lost = sorted(account.unanswered & arrived)
    failures = account.failures if delay else []
    return {
        "restarts": restarts,
        "drain_delay_s": delay,
        "outcomes": dict(sorted(account.outcomes.items())),
        "lost": lost,
        "connection_failures": failures[:20],
        "wrong": account.wrong[:20],
        "exits": account.exits,
        "failed": bool(lost or failures or account.wrong or any(account.exits)),
    }


def main() -> int:
    """The campaign as a command; 1 when it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--clients", type=int, default=16)
    chosen = parser.parse_args()
    accounts = []
    for delay in (DELAY, 0.0):
        with tempfile.TemporaryDirectory() as folder:
            accounts.append(run(chosen.restarts, chosen.clients, delay, Path(folder) / "log"))
    print(json.dumps(accounts, indent=2))
    return 1 if any(account["failed"] for account in accounts) else 0


if __name__ == "__main__":
    sys.exit(main())

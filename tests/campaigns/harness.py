"""What the campaigns share: a service of their own, in a process of its own, and how much memory it holds."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVE = ("-m", "linewise", "serve")
PATIENCE = 300  # seconds for a start or an end on a busy machine


def free_port() -> int:
    """A port of the loopback device that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(
    port: int, program: Sequence[str] = SERVE, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A service on a port, begun and ready.

    ``program`` is what Python is to run, ``log`` the file that all it says is added to, ``environment`` adds
    variables to those of this process. Raises ``RuntimeError`` when it does not become ready.
    """
    settings = {"LINEWISE_LOG_LEVEL": "error", "LINEWISE_PORT": str(port)} | dict(environment or {})
    with open(log or os.devnull, "ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env=os.environ | settings,
            stdout=errors if log else None,
            stderr=errors if log else None,
        )
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz/ready", timeout=5).close()
            return process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError("the service did not become ready") from None
            time.sleep(0.05)


@contextmanager
def service(
    *arguments: str, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[tuple[int, int]]:
    """A service with the shipped weights, ready: its port and process id; ``arguments`` are those of the command."""
    port = free_port()
    process = start(port, (*SERVE, *arguments), log, environment)
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(PATIENCE)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def resident(pid: int) -> float:
    """Resident memory of a process and its children in MB; what they share counts for each."""
    held = 0.0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):  # a child that has ended by now
            held += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return held

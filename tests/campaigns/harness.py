"""A service in a process of its own, and its memory, for campaigns and tests."""

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
TIMEOUT_S = 300  # for starts, responses and exits on a busy machine


def free_port() -> int:
    """Return an unused port of the loopback device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def start(
    port: int,
    program: Sequence[str] = SERVE,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> subprocess.Popen[bytes]:
    """Start a service on a port and wait until it is ready.

    ``program`` holds the arguments of Python, ``log`` is the file to which output is appended, and ``environment``
    extends the environment of this process. ``folder`` is the working directory.

    Raises:
        RuntimeError: the service did not become ready.
    """
    settings = {"LINEWISE_LOG_LEVEL": "error", "LINEWISE_PORT": str(port)} | dict(environment or {})
    with open(log or os.devnull, "ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=folder,
            env=os.environ | settings,
            stdout=errors if log else None,
            stderr=errors if log else None,
        )
    deadline = time.monotonic() + TIMEOUT_S
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
    """Run a service with the shipped weights; yields its port and process id.

    ``arguments`` are those of ``linewise serve``.
    """
    port = free_port()
    process = start(port, (*SERVE, *arguments), log, environment)
    try:
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def children(pid: int) -> list[int]:
    """Return the ids of the running children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended
            found += map(int, (task / "children").read_text().split())
    return found


def resident(pid: int) -> float:
    """Measure the resident memory of a process and its children in MB; shared pages count for each."""
    megabytes = 0.0
    for process in (pid, *children(pid)):
        with contextlib.suppress(OSError):  # the child has ended
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            megabytes += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return megabytes

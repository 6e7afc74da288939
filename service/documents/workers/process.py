"""Running the worker program, and ending it from another thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

WALL_LIMIT_S = 60  # on a busy machine; the deadline of a request usually ends its worker before

_PROGRAM = Path(__file__).with_name("program.py")


class WorkerFailed(Exception):
    """The worker failed, exceeded a limit or was stopped."""


class Stop:
    """Ends the workers of one piece of work, from any thread; leaving the ``with`` block does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_set = False

    def set(self) -> None:
        """Kill the worker that runs, and every later one at once."""
        with self._lock:
            self._is_set = True
            if self._process is not None:
                self._process.kill()

    def __enter__(self) -> Stop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.set()

    @contextmanager
    def watch(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Let ``set`` kill ``process`` during the block."""
        with self._lock:
            self._process = process
            if self._is_set:
                process.kill()
        try:
            yield
        finally:
            with self._lock:
                self._process = None


def run_worker(
    data: bytes, memory: int, seconds: int, stop: Stop | None, task: str, *arguments: object
) -> tuple[dict[str, Any], memoryview]:
    """Run a task of ``program.py`` on ``data``; return its line of JSON and the bytes after it.

    ``memory`` is the limit in bytes, ``seconds`` that of the CPU time. Raises ``WorkerFailed``.
    """
    # -P keeps this folder off the module path. In a session of its own, the worker does not receive Ctrl+C, after which
    # the service still finishes admitted requests.
    command = [sys.executable, "-P", _PROGRAM, task, memory, seconds, *arguments]
    process = subprocess.Popen(  # noqa: S603 - our own program; client data is on its standard input only
        [str(argument) for argument in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each of its threads reserves memory
    )
    with process, (stop or Stop()).watch(process):
        try:
            output, _ = process.communicate(data, WALL_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise WorkerFailed from None
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise WorkerFailed
    line = output.index(b"\n")
    return json.loads(output[:line]), memoryview(output)[line + 1 :]

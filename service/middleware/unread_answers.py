"""Closing of connections whose clients do not read their answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("linewise.service")

CHECK_PERIOD_S = 1.0
MIN_PROGRESS_BYTES = 2**16  # in the time that a client has for them, unless less is left


@dataclass
class UnsentAnswer:
    """The answer that waits in the buffer of one connection.

    ``size`` is in bytes, ``left`` includes those in the kernel; ``progressed`` is the time of the last progress on the
    clock of the event loop.
    """

    transport: Any
    client: str
    size: int
    left: int
    progressed: float


@dataclass
class UnreadAnswers:
    """Connections with unsent bytes; those without progress are closed.

    A connection is closed after ``timeout`` seconds without progress. While all hold more than ``max_bytes`` together,
    those without progress for the longest time are closed, after ``CHECK_PERIOD_S`` at the earliest.
    """

    timeout: float = 30.0
    max_bytes: int = 64 * 2**20
    _waiting: dict[int, UnsentAnswer] = field(default_factory=dict)
    _check: asyncio.TimerHandle | None = None

    def add(self, transport: Any, client: str) -> None:
        """Watch a connection whose buffer is no longer empty."""
        loop = asyncio.get_running_loop()
        size = transport.get_write_buffer_size()
        self._waiting[id(transport)] = UnsentAnswer(transport, client, size, size + _in_kernel(transport), loop.time())
        if self._check is None:
            self._check = loop.call_later(CHECK_PERIOD_S, self._run, loop)

    def remove(self, transport: Any) -> None:
        """Forget a connection whose buffer is empty, or which is closed."""
        self._waiting.pop(id(transport), None)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for answer in self._waiting.values():
            answer.size = answer.transport.get_write_buffer_size()
            left = answer.size + _in_kernel(answer.transport)
            if left > answer.left or answer.left - left >= min(MIN_PROGRESS_BYTES, answer.left):
                answer.left, answer.progressed = left, now
        total = sum(answer.size for answer in self._waiting.values())
        for answer in sorted(self._waiting.values(), key=lambda answer: answer.progressed):
            idle = now - answer.progressed
            if idle >= self.timeout or (total > self.max_bytes and idle >= CHECK_PERIOD_S):
                total -= answer.size
                self._close(answer, idle)
        self._check = loop.call_later(CHECK_PERIOD_S, self._run, loop) if self._waiting else None

    def _close(self, answer: UnsentAnswer, idle: float) -> None:
        log.warning(
            "closed a connection: the client read nothing of its answer for %.0f s, %d bytes were unsent",
            idle,
            answer.size,
            extra={"client": answer.client},
        )
        self.remove(answer.transport)
        answer.transport.abort()


def _in_kernel(transport: Any) -> int:
    """Bytes that the kernel has taken and the client has not; 0 where the system does not tell.

    The kernel takes megabytes, and then nothing for a long time, however steadily the client reads.
    """
    with contextlib.suppress(ImportError, OSError):
        import fcntl
        import termios

        (size,) = struct.unpack(
            "i", fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        )
        return int(size)
    return 0

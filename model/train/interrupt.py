"""Ends a run in good order: what a SIGINT or SIGTERM sets is looked at between two steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Inside, SIGINT and SIGTERM only make the function that is given answer True; the main thread's affair."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda which, _: received.append(which)) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

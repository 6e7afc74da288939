"""Retries within the deadline of a call.

Temporary failures are retried: 429, 502, 503, lost connections, and a 500 that the service did not write, which proxies
send when a replica dies. Recognition has no side effects, so a repeated request is safe.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx2

from linewise.service.client.results import ServiceFailure, foreign_response

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts without Retry-After

T = TypeVar("T")

_RETRIED_STATUSES = frozenset({429, 502, 503})
_MAX_JITTER = 0.25  # of a pause: clients rejected together should not return together


class Deadline:
    """The time limit of one call with all its attempts, in seconds from now."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._attempts = 0

    @property
    def time_left(self) -> float:
        """Seconds until the deadline, at least a millisecond."""
        return max(0.001, self._end - time.monotonic())

    def request_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``httpx2``'s ``post`` that limit each step of the next attempt to the time left."""
        time_left = self.time_left
        return {"timeout": time_left, "headers": {"X-Request-Timeout": f"{time_left:.3f}"}}

    def pause_after(
        self, error: httpx2.HTTPError | TimeoutError | ServiceFailure, response: httpx2.Response | None
    ) -> float:
        """Return the seconds to wait before the next attempt.

        Raises ``ServiceFailure`` if the failure is permanent or the next attempt would start after the deadline.
        """
        self._attempts += 1
        failure = error if isinstance(error, ServiceFailure) else self._failure_of(error)
        if not _is_temporary(failure):
            raise failure
        retry_after = response.headers.get("retry-after") if response is not None else None
        if retry_after is not None and retry_after.isdecimal() and int(retry_after[:9]) > 0:
            pause = float(retry_after)
        else:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._attempts - 1))
        pause *= 1.0 + _MAX_JITTER * random.random()
        if time.monotonic() + pause >= self._end:
            raise failure
        return pause

    def _failure_of(self, error: httpx2.HTTPError | TimeoutError) -> ServiceFailure:
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            return ServiceFailure(0, "unreachable", f"no complete response within {self._timeout:g} s")
        if isinstance(error, httpx2.TransportError):
            return ServiceFailure(0, "unreachable", str(error) or type(error).__name__)
        return foreign_response(0)


def run_within(seconds: float, work: Callable[[], T]) -> T:
    """Return the result of ``work``, which runs in a thread of its own. Raises ``TimeoutError``.

    The timeouts of ``httpx2`` are for each read and write, so a slow peer could prolong a request without end. After
    the timeout the thread ends with its connection.
    """
    result: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result.set_result(context.run(work))
        except BaseException as error:  # the waiting thread raises it
            result.set_exception(error)

    threading.Thread(target=run, name="linewise-client", daemon=True).start()
    return result.result(seconds)


def _is_temporary(failure: ServiceFailure) -> bool:
    from_proxy = failure.status == 500 and failure.code == "unexpected"
    return failure.status in _RETRIED_STATUSES or failure.code == "unreachable" or from_proxy

"""The pool of threads makes the most urgent call first, and drops what is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from linewise.service.documents.workers.pool import WatchedPool


@pytest.fixture
def pool() -> WatchedPool:
    return WatchedPool(1, "test")


async def occupy(pool: WatchedPool) -> tuple[threading.Event, asyncio.Task[bool]]:
    """Keep the only thread busy until the event is set."""
    gate = threading.Event()
    task = asyncio.create_task(pool.run(lambda: gate.wait(20)))
    while not pool.running:
        await asyncio.sleep(0.001)
    return gate, task


def test_calls_are_made_in_the_order_in_which_they_are_due_and_then_of_arrival(pool: WatchedPool) -> None:
    made: list[str] = []

    async def run() -> None:
        gate, first = await occupy(pool)
        dues = {"late": 9.0, "soon": 1.0, "later": 9.0, "sooner": 0.5}
        calls = [asyncio.create_task(pool.run(lambda n=name: made.append(n), due)) for name, due in dues.items()]  # type: ignore[misc]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *calls)

    asyncio.run(run())
    assert made == ["sooner", "soon", "late", "later"]


def test_a_cancelled_call_is_not_made_and_an_error_is_raised(pool: WatchedPool) -> None:
    made: list[int] = []

    def fail() -> None:
        raise ValueError("broken")

    async def run() -> None:
        gate, first = await occupy(pool)
        works: list[Callable[[], None]] = [lambda: made.append(0), fail, lambda: made.append(2)]
        calls = [asyncio.create_task(pool.run(work)) for work in works]
        await asyncio.sleep(0)
        calls[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        await first
        with pytest.raises(ValueError, match="broken"):
            await calls[1]
        await calls[2]

    asyncio.run(run())
    assert made == [2]
    assert pool.running == 0


def test_a_shutdown_drops_what_waits(pool: WatchedPool) -> None:
    async def run() -> None:
        gate, first = await occupy(pool)
        waiting = asyncio.create_task(pool.run(lambda: None))
        await asyncio.sleep(0)
        pool.shutdown()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        assert await first

    asyncio.run(run())

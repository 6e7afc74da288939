"""Pages and documents are admitted whole: all lines are answered, or the request gets one error."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linewise.service.errors import QueueFull, ServiceError
from linewise.service.inference.batcher import Batcher
from linewise.service.inference.engine import Engine
from linewise.service.inference.pipeline import RecognitionOptions, recognize
from linewise.service.inference.queue import BatchLimits
from linewise.service.settings import Settings
from tests.service.conftest import FakePages
from tests.service.inference.test_pipeline import page, post

GREYS = [index % 190 for index in range(1, 91)]  # more lines than are in the queue at the same time


def texts(answer: Any) -> list[str]:
    return [line["text"] for line in answer["lines"]]


def document(pages: int) -> bytes:
    """A TIFF with a page of three lines each."""
    buffer = io.BytesIO()
    first, *others = [Image.open(io.BytesIO(page((20, 60, 100)))) for _ in range(pages)]
    first.save(buffer, "TIFF", save_all=True, append_images=others)
    return buffer.getvalue()


def test_an_admitted_page_is_finished_while_the_service_drains(client: TestClient, fake: Any) -> None:
    answers: list[Any] = []
    fake.gate.clear()
    asking = threading.Thread(target=lambda: answers.append(post(client, page(GREYS), mode="page")))
    asking.start()
    while not fake.threads:
        time.sleep(0.002)
    client.app.state.engine.drain()  # type: ignore[attr-defined]
    fake.gate.set()
    asking.join(30)
    assert answers[0].status_code == 200, answers[0].text
    assert texts(answers[0].json()) == [str(grey) for grey in GREYS]
    assert post(client, page(), mode="page").json()["code"] == "draining"


def test_an_idle_service_reads_a_batch_of_pages_whole(client: TestClient) -> None:
    files = [("files", (f"{number}.png", page(GREYS), "image/png")) for number in range(12)]
    results = client.post("/recognize/batch", params={"mode": "page"}, files=files).json()["results"]
    assert [result.get("error") for result in results] == [None] * 12
    assert all(texts(result) == [str(grey) for grey in GREYS] for result in results)


def test_a_page_counts_as_one_image(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_in_flight=1, max_batch_files=1)
    assert texts(post(client, page(GREYS), mode="page").json()) == [str(grey) for grey in GREYS]


@pytest.mark.parametrize(
    ("pages", "headers", "timeout"), [(1, {}, 10), (5, {}, 50), (20, {}, 120), (5, {"x-request-timeout": "30"}, 30)]
)
def test_a_document_may_take_longer_for_each_page(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, pages: int, headers: dict[str, str], timeout: float
) -> None:
    deadlines: list[float] = []
    submit = Batcher._submit

    def recording(batcher: Any, reservation: Any, *arguments: Any) -> Any:
        deadlines.append(reservation.deadline)
        return submit(batcher, reservation, *arguments)

    monkeypatch.setattr(Batcher, "_submit", recording)
    started = time.monotonic()
    answer = client.post("/recognize", content=document(pages), params={"mode": "page"}, headers=headers)
    assert answer.status_code == 200
    assert deadlines == pytest.approx([started + timeout] * 3 * pages, abs=9)


def test_a_page_with_a_line_that_fails_is_one_error(
    client: TestClient, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "read", lambda *_: (_ for _ in ()).throw(ValueError("poison")))
    answer = post(client, page(GREYS), mode="page")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert client.app.state.engine.load[:2] == (0, 0)  # type: ignore[attr-defined]


async def outcomes(engine: Engine, chance: random.Random, requests: int) -> dict[str, int]:
    """Send pages and lines at random, cancel some at random; count the outcomes."""
    counts = {"whole": 0, "refused": 0, "error": 0, "cancelled": 0}
    content = {count: page(GREYS[:count]) for count in (1, 5, 90)}

    async def request(number: int) -> None:
        lines = chance.choice((1, 5, 90))
        mode: Any = "line" if lines == 1 else "page"
        timeout = chance.choice((0.05, 10.0, 60.0))
        try:
            ticket = engine.admit(1, 100, time.monotonic() + timeout, client=f"{number % 3}", kind=mode)
        except QueueFull:
            counts["refused"] += 1
            return
        try:
            with ticket:
                result = await recognize(engine, ticket, lambda: content[lines], RecognitionOptions(mode=mode))
        except ServiceError:
            counts["error"] += 1
        else:
            assert len(result.document.pages[0].lines) == lines
            counts["whole"] += 1

    tasks = []
    for number in range(requests):
        tasks.append(asyncio.create_task(request(number)))
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    counts["cancelled"] = sum(task.cancelled() for task in tasks)
    return counts


@pytest.mark.parametrize("seed", range(5))
def test_under_overload_and_cancellation_pages_are_whole_and_nothing_is_left(fake: Any, seed: int) -> None:
    limits = BatchLimits(max_in_flight=40, target_wait=1.0, urgent_timeout=10.0)

    async def run() -> dict[str, int]:
        engine = Engine(lambda: fake, Settings().image_limits, limits, open_pages=lambda _: FakePages())
        await engine.start()
        counts = await outcomes(engine, random.Random(seed), 200)
        assert engine.load == (0, 0, 0.0)
        await engine.stop(30)
        return counts

    counts = asyncio.run(run())
    assert sum(counts.values()) == 200
    assert all(counts[kind] for kind in ("whole", "refused", "cancelled")), counts

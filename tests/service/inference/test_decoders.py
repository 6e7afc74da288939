"""Decoders that take long or never end: others are served, health tells the truth, a deadline frees the slot."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from linewise.service.cpu import granted_cores
from linewise.service.documents import multipage
from linewise.service.documents.image import decode
from linewise.service.documents.workers import process
from linewise.service.inference import engine
from tests.campaigns.harness import children
from tests.service.conftest import draw_line, encode
from tests.service.documents.test_decode_cost import jpeg
from tests.service.inference.test_pipeline import page, post

COSTLY = jpeg((7000, 7000))  # costly enough not to be quick
SLEEPER = "import time\ntime.sleep(600)\n"


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let every costly image be decoded in a worker that does not end."""
    (tmp_path / "sleep.py").write_text(SLEEPER)
    with monkeypatch.context() as patch:
        patch.setattr(multipage, "CHEAP_DECODE_S", 0.0)
        patch.setattr(process, "_PROGRAM", tmp_path / "sleep.py")
        yield


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let decoding in a thread wait for an event."""
    gate = threading.Event()
    monkeypatch.setattr(multipage, "decode", lambda *args, **options: gate.wait(60) and decode(*args, **options))
    yield gate
    gate.set()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(work()))
    thread.start()
    return thread, outcomes


def health(client: TestClient, probe: str) -> tuple[int, str]:
    response = client.get(f"/healthz/{probe}")
    return response.status_code, response.json()["status"]


@pytest.mark.usefixtures("sleeping")
def test_a_deadline_ends_the_decoder_and_lines_are_served_beside_it(client: TestClient) -> None:
    before = set(children(os.getpid()))
    costly = {"content-type": "image/jpeg", "x-request-timeout": "2"}
    threads = [in_thread(lambda: client.post("/recognize", content=COSTLY, headers=costly)) for _ in range(3)]
    until(lambda: set(children(os.getpid())) - before)
    line = encode(draw_line())
    assert [post(client, line).status_code for _ in range(5)] == [200] * 5
    assert health(client, "ready") == (200, "ready") and health(client, "live") == (200, "live")
    for thread, answers in threads:
        thread.join(30)
        assert answers[0].json()["code"] == "deadline_exceeded"
    until(lambda: not set(children(os.getpid())) - before)


def test_after_the_deadline_the_slot_is_free(
    client: TestClient, sleeping: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"content-type": "image/jpeg", "x-request-timeout": "0.5"}
    for _ in range(granted_cores() + 1):
        assert client.post("/recognize", content=COSTLY, headers=headers).status_code == 504
    monkeypatch.setattr(multipage, "CHEAP_DECODE_S", 60.0)
    assert post(client, page(), mode="page").status_code == 200
    assert post(client, COSTLY).status_code == 200


def test_a_stuck_decoder_fails_readiness_and_then_liveness(
    make_client: Callable[..., TestClient], stuck: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(hang_timeout=1.0)
    monkeypatch.setattr(engine, "STALL_S", 0.2)
    headers = {"content-type": "image/png", "x-request-timeout": "1"}
    for _ in range(granted_cores()):
        assert client.post("/recognize", content=encode(draw_line()), headers=headers).status_code == 504
    until(lambda: health(client, "ready") == (503, "busy") or health(client, "live")[0] == 503)
    until(lambda: health(client, "live") == (503, "stuck"))
    stuck.set()
    until(lambda: health(client, "live") == (200, "live") and health(client, "ready") == (200, "ready"))


def test_a_stuck_page_detector_fails_liveness(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    client = make_client(hang_timeout=0.3)
    served: Any = client.app
    monkeypatch.setattr(served.state.engine.pages, "find", lambda image: gate.wait(60) and [])
    thread, answers = in_thread(lambda: post(client, page(), mode="page"))
    until(lambda: health(client, "live") == (503, "stuck"))
    assert post(client, encode(draw_line())).status_code == 200, "lines do not wait for pages"
    gate.set()
    until(lambda: health(client, "live") == (200, "live"))
    thread.join(30)
    assert answers[0].status_code in (200, 504)


def test_slow_images_do_not_raise_the_time_that_quick_ones_are_expected_to_take(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: Any = client.app
    owner = served.state.engine
    assert post(client, encode(draw_line())).status_code == 200
    expected = owner._decode_seconds
    decode_page = multipage.decode_page

    def slow(*args: Any) -> Any:
        time.sleep(1)
        return decode_page(*args)

    monkeypatch.setattr(multipage, "decode_page", slow)
    assert post(client, page(), mode="page").status_code == 200
    assert owner._decode_seconds == expected > 0


def test_a_line_is_decoded_before_most_images_of_an_earlier_batch(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, order = threading.Event(), []

    def counting(data: bytes, *args: Any, **options: Any) -> Any:
        order.append("line" if data == line else "batch")
        assert gate.wait(60)
        return decode(data, *args, **options)

    monkeypatch.setattr(multipage, "decode", counting)
    large, line = encode(draw_line("BATCH")), encode(draw_line("LINE"))
    files = [("files", (str(number), large)) for number in range(64)]
    batch, answers = in_thread(lambda: client.post("/recognize/batch", files=files))
    until(lambda: order)
    single, lines = in_thread(lambda: post(client, line))
    pool = client.app.state.engine._quick_pool  # type: ignore[attr-defined]
    until(lambda: pool._waiting.qsize() + pool.running == 65)
    gate.set()
    single.join(30)
    batch.join(30)
    assert lines[0].status_code == answers[0].status_code == 200
    assert order.index("line") < granted_cores() + 2


def test_leaving_clients_end_their_decoders(sleeping: None, serve: Callable[..., Any]) -> None:
    before = set(children(os.getpid()))

    async def leave(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST /recognize HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(COSTLY)}\r\n\r\n"
        )
        writer.write(head.encode() + COSTLY)
        while not set(children(os.getpid())) - before:
            await asyncio.sleep(0.005)
        writer.close()

    with serve() as port:
        asyncio.run(leave(port))
        until(lambda: not set(children(os.getpid())) - before)

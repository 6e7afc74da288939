"""Overload: admitted requests meet their deadline, others are rejected at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient


def in_background(client: TestClient, picture: bytes, **options: Any) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/recognize", content=picture, **options)))
    thread.start()
    return thread, answers


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def engine_of(client: TestClient) -> Any:
    return client.app.state.engine  # type: ignore[attr-defined]


def test_a_full_service_refuses_with_retry_after_and_recovers(
    make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    client = make_client(max_in_flight=2, max_batch_files=2)
    fake.gate.clear()
    waiting = [in_background(client, picture) for _ in range(2)]
    until(lambda: engine_of(client).load[0] == 2)
    assert client.get("/healthz/ready").json() == {"status": "busy"}
    refused = client.post("/recognize", content=picture)
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    fake.gate.set()
    for thread, answers in waiting:
        thread.join()
        assert answers[0].status_code == 200
    assert client.post("/recognize", content=picture).status_code == 200
    assert engine_of(client).load[:2] == (0, 0)


def test_bytes_in_flight_are_limited_too(make_client: Callable[..., TestClient], fake: Any, picture: bytes) -> None:
    most = 2 * len(picture) - 1
    client = make_client(max_in_flight_bytes=most, max_body_bytes=most, max_batch_body_bytes=most)
    fake.gate.clear()
    thread, answers = in_background(client, picture)
    until(lambda: engine_of(client).load[0] == 1)
    assert client.post("/recognize", content=picture).json()["code"] == "queue_full"
    fake.gate.set()
    thread.join()
    assert answers[0].status_code == 200


def test_a_request_past_its_deadline_gets_504(
    make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    client = make_client(request_timeout=0.05, batch_timeout=0.05)
    fake.gate.clear()
    response = client.post("/recognize", content=picture)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    response = client.post("/recognize/batch", files={"files": picture})
    assert response.status_code == 200
    assert response.json()["results"][0]["error"]["code"] == "deadline_exceeded"
    until(lambda: engine_of(client).load[:2] == (0, 0))


def test_the_client_may_set_its_own_timeout(client: TestClient, fake: Any, picture: bytes) -> None:
    fake.gate.clear()
    response = client.post("/recognize", content=picture, headers={"x-request-timeout": "0.05"})
    assert response.json()["code"] == "deadline_exceeded"


def test_the_timeout_of_the_client_is_capped(make_client: Callable[..., TestClient], fake: Any, picture: bytes) -> None:
    client = make_client(max_request_timeout=0.05)
    fake.gate.clear()
    response = client.post("/recognize", content=picture, headers={"x-request-timeout": "9999"})
    assert response.json()["code"] == "deadline_exceeded"


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", ""])
def test_an_invalid_timeout_is_refused(client: TestClient, picture: bytes, value: str) -> None:
    response = client.post("/recognize", content=picture, headers={"x-request-timeout": value})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")


def test_a_stuck_model_fails_liveness(make_client: Callable[..., TestClient], fake: Any, picture: bytes) -> None:
    client = make_client(hang_timeout=0.01, request_timeout=0.05)
    fake.gate.clear()
    client.post("/recognize", content=picture)
    until(lambda: client.get("/healthz/live").status_code == 503)
    assert client.get("/healthz/live").json() == {"status": "stuck"}
    assert client.get("/healthz/ready").status_code == 503
    fake.gate.set()
    until(lambda: client.get("/healthz/live").status_code == 200)


def test_a_dead_model_thread_fails_both_probes(client: TestClient, fake: Any, picture: bytes) -> None:
    fake.failure = SystemExit()
    assert client.post("/recognize", content=picture).json()["code"] == "not_ready"
    until(lambda: client.get("/healthz/live").status_code == 503)
    assert client.get("/healthz/ready").json() == {"status": "failed"}
    assert client.post("/recognize", content=picture).json()["code"] == "not_ready"


def test_draining_finishes_admitted_requests_and_refuses_new_ones(
    client: TestClient, fake: Any, picture: bytes
) -> None:
    fake.gate.clear()
    thread, answers = in_background(client, picture)
    until(lambda: bool(fake.threads))
    engine_of(client).drain()
    assert client.get("/healthz/ready").json() == {"status": "draining"}
    assert client.get("/healthz/live").status_code == 200
    refused = client.post("/recognize", content=picture)
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert "retry-after" in refused.headers
    fake.gate.set()
    thread.join()
    assert answers[0].status_code == 200


def test_mixed_requests_are_all_answered_and_the_load_returns_to_zero(
    make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    client = make_client(max_in_flight=16, max_batch_files=4)

    def status_of(number: int) -> int:
        headers = {"x-request-timeout": "0.0001"} if number % 7 == 0 else {}
        data = [picture, picture[:40], b"hello", picture][number % 4]
        if number % 5 == 0:
            files = [("files", data), ("files", picture)]
            return client.post("/recognize/batch", files=files, headers=headers).status_code
        return client.post("/recognize", content=data, headers=headers).status_code

    with ThreadPoolExecutor(12) as pool:
        codes = set(pool.map(status_of, range(300)))
    assert codes <= {200, 415, 422, 503, 504}
    until(lambda: engine_of(client).load[:2] == (0, 0))
    assert client.post("/recognize", content=picture).status_code == 200

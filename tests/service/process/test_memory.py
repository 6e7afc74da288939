"""Requests leave no memory behind: neither bytes and pixels nor other objects."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.service.conftest import encode

ROUNDS = 20
NOISE = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 500), np.uint8)), "TIFF")  # 100 kB


@pytest.fixture
def silent() -> Iterator[None]:
    """Disable logging: pytest keeps captured log records and all they refer to."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def send_mixed(client: TestClient, fake: Any) -> list[int]:
    """Send requests of every outcome: ok, corrupt, failed in the model, too late; single and in batches."""
    files = [("files", data) for data in (NOISE, b"hello", NOISE[:-1000])]
    in_time = [
        client.post("/recognize", content=NOISE),
        client.post("/recognize", content=NOISE, params={"mode": "page"}),
        client.post("/recognize", content=NOISE[:-1000]),
        client.post("/recognize/batch", files=files),
        client.post("/recognize/batch", files=files, headers={"accept": "application/x-ndjson"}),
    ]
    fake.failure = ValueError("failure in the model")
    failed = [client.post("/recognize", content=NOISE), client.post("/recognize/batch", files=files)]
    fake.failure = None
    fake.gate.clear()
    late = client.post("/recognize", content=NOISE, headers={"x-request-timeout": "0.05"})
    fake.gate.set()
    return [response.status_code for response in [*in_time, *failed, late]]


def measure_memory() -> tuple[int, int]:
    """Count the live objects and the traced bytes."""
    gc.collect()
    return len(gc.get_objects()), tracemalloc.get_traced_memory()[0]


def test_after_any_outcome_nothing_of_a_request_is_left(
    client: TestClient, fake: Any, silent: None, traced: None
) -> None:
    fake.seen, fake.asked = deque(maxlen=0), deque(maxlen=0)
    for _ in range(3):  # allocates what is kept once, such as a counter per outcome
        assert send_mixed(client, fake) == [200, 200, 422, 200, 200, 500, 200, 504]
    objects, size = measure_memory()
    for _ in range(ROUNDS):
        send_mixed(client, fake)
    objects_after, size_after = measure_memory()
    assert objects_after - objects < ROUNDS, "at least one object per round"
    assert size_after - size < ROUNDS * len(NOISE) / 10, "image bytes"

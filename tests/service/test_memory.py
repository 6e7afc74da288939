"""Nothing of a request outlives it: neither its bytes and pixels nor any object that was made for it."""

from __future__ import annotations

import gc
import logging
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.service.conftest import encode

ROUNDS = 20
PAGE = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 500), np.uint8)), "TIFF")  # 100 kB


@pytest.fixture
def silent() -> Iterator[None]:
    """Without logs: what collects them for the report of a test keeps all they speak of."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def mixed(client: TestClient, fake: Any) -> list[int]:
    """Requests of every outcome: read, found broken, failed in the model and come too late, alone and together."""
    several = [("files", one) for one in (PAGE, b"hello", PAGE[:-1000])]
    in_time = [
        client.post("/recognize", content=PAGE),
        client.post("/recognize", content=PAGE, params={"mode": "page"}),
        client.post("/recognize", content=PAGE[:-1000]),
        client.post("/recognize/batch", files=several),
        client.post("/recognize/batch", files=several, headers={"accept": "application/x-ndjson"}),
    ]
    fake.failure = ValueError("told to fail")
    failed = [client.post("/recognize", content=PAGE), client.post("/recognize/batch", files=several)]
    fake.failure = None
    fake.gate.clear()
    late = client.post("/recognize", content=PAGE, headers={"x-request-timeout": "0.05"})
    fake.gate.set()
    return [response.status_code for response in [*in_time, *failed, late]]


def held() -> tuple[int, int]:
    """How many objects there are, and in how many bytes."""
    gc.collect()
    return len(gc.get_objects()), tracemalloc.get_traced_memory()[0]


def test_after_any_outcome_nothing_of_a_request_is_left(
    make_client: Callable[..., TestClient], fake: Any, silent: None, traced: None
) -> None:
    fake.seen, fake.asked = deque(maxlen=0), deque(maxlen=0)
    client = make_client()
    for _ in range(3):  # what is made once, such as a counter for each outcome
        assert mixed(client, fake) == [200, 200, 422, 200, 200, 500, 200, 504]
    objects, size = held()
    for _ in range(ROUNDS):
        mixed(client, fake)
    more_objects, larger = held()
    assert more_objects - objects < ROUNDS, "less than one for each time"
    assert larger - size < ROUNDS * len(PAGE) / 10, "no picture"

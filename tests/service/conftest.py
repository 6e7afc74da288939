"""A fake recogniser without weights, and applications and servers around it."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw

from linewise.model import Character, FoundLine, PageLine, PageReading, PageSteps, Reading
from linewise.model.page.geometry import Quad, padded_quad
from linewise.service.app import create_app
from linewise.service.middleware.http_limits import LimitedHttpProtocol
from linewise.service.settings import Settings

Pixels = npt.NDArray[np.uint8]


class FakeReader:
    """Recognise each image as its mean brightness, which tests can compute."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Restore the initial state, so that tests can share the reader with its service."""
        vars(self).clear()
        self.model_id = "fake"
        self.revision = "sha256:00"
        self.device = "cpu"
        self.gate = threading.Event()
        self.gate.set()
        self.warm_gate = threading.Event()
        self.warm_gate.set()
        self.failure: Exception | None = None
        self.threads: set[str] = set()
        self.seen: list[Pixels] = []
        self.asked: list[Any] = []

    def decoding(self, *wanted: Any) -> Any:
        if "☃" in str(wanted[1]):
            raise ValueError("charset has characters that the model cannot write: ☃")
        return wanted

    def read(self, images: Sequence[Pixels], decodings: Sequence[Any] | None = None) -> list[Reading]:
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        self.seen.extend(images)
        self.asked.extend(decodings or [None] * len(images))
        return [self.reading(image) for image in images]

    def reading(self, image: Pixels) -> Reading:
        text = "" if image.max() == 0 else f"{image.mean():.0f}"
        spans = tuple(Character(letter, 0.9, 5.0 * i, 5.0 * i + 4.0, 0.0, len(image)) for i, letter in enumerate(text))
        return Reading(text, 0.75, 0.5, spans)

    def width_bucket(self, height: int, width: int) -> int:
        return 64 * -(-width * 32 // (height * 64))

    def warm_up(self) -> None:
        assert self.warm_gate.wait(30)


class FakePages:
    """Detect each run of dark rows as a line as wide as the page, from top to bottom."""

    def find(self, page: Pixels) -> list[FoundLine]:
        dark = np.flatnonzero(
            np.diff(np.concatenate([[False], (page.reshape(len(page), -1) < 200).any(axis=1), [False]]).astype(int))
        )
        width = page.shape[1]
        return [
            FoundLine(np.array([[0, top], [width, top], [width, bottom], [0, bottom]], np.float32), 1.0)
            for top, bottom in zip(dark[::2], dark[1::2], strict=True)
        ]

    def steps(self, page: Pixels, found: Sequence[FoundLine], finds_orientation: bool = True) -> PageSteps:
        readings = yield [page[int(line.quad[0, 1]) : int(line.quad[2, 1])] for line in found]
        lines = (
            PageLine(_below_margin(reading, line.quad), line.quad, row)
            for row, (reading, line) in enumerate(zip(readings, found, strict=True))
        )
        return PageReading(tuple(lines))


def _below_margin(reading: Reading, quad: Quad) -> Reading:
    """The reading of a crop without a margin in the rows of one that has it, as that of a page's line."""
    _, top, _, _ = padded_quad(quad)[[0, 2]].reshape(-1)
    rows = float(quad[0, 1]) - max(0, round(float(top)))
    moved = (replace(c, top=c.top + rows, bottom=c.bottom + rows) for c in reading.characters)
    return replace(reading, characters=tuple(moved))


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """Encode an image in a file format."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def draw_line(text: str = "INVOICE 1042", mode: str = "L", ink: Any = 0, paper: Any = 255) -> Image.Image:
    """Draw a line of text."""
    image = Image.new(mode, (16 + 14 * len(text), 40), paper)
    ImageDraw.Draw(image).text((8, 6), text, fill=ink, font_size=24)
    return image


def wait_until_ready(client: TestClient) -> None:
    deadline = time.monotonic() + 30
    while client.get("/healthz/ready").status_code != 200:
        assert time.monotonic() < deadline, "the service does not become ready"
        time.sleep(0.002)


@pytest.fixture
def fake() -> FakeReader:
    return FakeReader()


@pytest.fixture
def make_client(fake: FakeReader) -> Iterator[Callable[..., TestClient]]:
    """Return a factory of clients of an application with the given settings; all are closed at the end.

    By default there is one model thread on any machine, so that one image occupies the model.
    """
    opened: list[TestClient] = []

    def make(**settings: Any) -> TestClient:
        app = create_app(Settings(**({"threads": 1} | settings)), fake, FakePages())
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        if fake.warm_gate.is_set():
            wait_until_ready(client)
        return client

    yield make
    fake.gate.set()
    fake.warm_gate.set()
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


@pytest.fixture
def picture() -> bytes:
    return encode(draw_line())


@contextlib.contextmanager
def serving(app: FastAPI, config: uvicorn.Config | None = None) -> Iterator[int]:
    """Run an application on a free loopback port, which is the value of the context."""
    config = config or uvicorn.Config(app, log_config=None, http=LimitedHttpProtocol)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not (server.started and app.state.engine.ready):
            assert thread.is_alive()
            time.sleep(0.002)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"


@pytest.fixture
def serve(fake: FakeReader) -> Callable[..., AbstractContextManager[int]]:
    """Return ``serving`` for an application with the fake reader and the given settings."""

    def run(
        app: FastAPI | None = None, config: uvicorn.Config | None = None, **settings: Any
    ) -> AbstractContextManager[int]:
        return serving(app or create_app(Settings(**({"threads": 1} | settings)), fake, FakePages()), config)

    return run

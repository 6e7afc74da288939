"""The recogniser as the event loop sees it: it never blocks, and the model has one thread of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from service.errors import NotReady
from service.images import ImageLimits, Pixels, UprightImage, decode

if TYPE_CHECKING:  # importing the model takes seconds, and only the thread that loads it has to wait
    from model import Reading

log = logging.getLogger("linewise.service")


class LineReader(Protocol):
    """What the service needs of a recogniser; ``model.Reader`` is one."""

    @property
    def model_id(self) -> str:
        """Name of the model."""

    @property
    def revision(self) -> str:
        """Hash of its weights."""

    @property
    def device(self) -> object:
        """Where it runs."""

    def read(self, images: Sequence[Pixels]) -> list[Reading]:
        """The text of each image, in order."""

    def warm_up(self) -> None:
        """Run once what a first request should not wait for."""


class State(Enum):
    """How far the engine is; only ``READY`` takes work."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Recognition:
    """One image and its reading; times in seconds."""

    image: UprightImage
    reading: Reading
    decode_time: float
    queue_time: float
    inference_time: float


class Engine:
    """Decodes in a bounded pool and reads in one thread, so that neither holds up the event loop."""

    def __init__(self, open_reader: Callable[[], LineReader], limits: ImageLimits) -> None:
        self._open_reader = open_reader
        self._limits = limits
        self._reader: LineReader | None = None
        self._decoders = ThreadPoolExecutor(max(1, _granted_cores() - 1), thread_name_prefix="decode")
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.state = State.STARTING

    async def start(self) -> None:
        """Load the model and warm it up; the state tells how that went."""
        loop = asyncio.get_running_loop()
        try:
            self._reader = await loop.run_in_executor(self._model_thread, self._load)
        except Exception:
            self.state = State.FAILED
            log.exception("the model cannot be loaded")
        else:
            self.state = State.READY
            log.info("ready: model %s %s", self._reader.model_id, self._reader.revision)

    def stop(self) -> None:
        """Take no more work and give the threads back once theirs is done."""
        self.state = State.STOPPED
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._model_thread.shutdown(wait=True, cancel_futures=True)

    @property
    def reader(self) -> LineReader:
        """The loaded recogniser. Raises ``NotReady`` before it is loaded and after it failed."""
        if self.state is not State.READY or self._reader is None:
            raise NotReady("The model is not loaded; try again soon.", retry_after=1.0)
        return self._reader

    async def recognize(self, unwrap: Callable[[], bytes]) -> Recognition:
        """Decode the image whose bytes ``unwrap`` gives, and read it.

        Raises ``NotReady``, ``ImageError``, and what ``unwrap`` raises.
        """
        reader = self.reader
        loop = asyncio.get_running_loop()
        image, decode_time = await loop.run_in_executor(self._decoders, self._decode, unwrap)
        queued = time.perf_counter()
        reading, started, finished = await loop.run_in_executor(self._model_thread, _read_one, reader, image.pixels)
        return Recognition(image, reading, decode_time, started - queued, finished - started)

    def _load(self) -> LineReader:
        reader = self._open_reader()
        reader.warm_up()
        return reader

    def _decode(self, unwrap: Callable[[], bytes]) -> tuple[UprightImage, float]:
        started = time.perf_counter()
        image = decode(unwrap(), self._limits)
        return image, time.perf_counter() - started


def _read_one(reader: LineReader, pixels: Pixels) -> tuple[Reading, float, float]:
    started = time.perf_counter()
    (reading,) = reader.read([pixels])
    return reading, started, time.perf_counter()


def _granted_cores() -> int:
    """Cores this process may use; a container's share is often less than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

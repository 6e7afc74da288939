"""The recogniser as the event loop sees it: admitted, decoded in a bounded pool, read in batches, never blocking."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from linewise.service.api.options import Options
from linewise.service.documents.image import ImageLimits, Pixels, UprightImage, decode
from linewise.service.errors import DeadlineExceeded, Draining, InvalidOption, NotReady, QueueFull
from linewise.service.inference.batcher import Batcher, Ticket
from linewise.service.inference.cpu import granted_cores
from linewise.service.inference.queue import (
    BatcherFailed,
    BatcherHooks,
    BatchLimits,
    Closed,
    Expired,
    ModelLost,
    Overloaded,
)

if TYPE_CHECKING:  # importing the model takes seconds, and only the thread that loads it has to wait
    from linewise.model import Decoding, FoundLine, PageSteps, Reading

log = logging.getLogger("linewise.service")

T = TypeVar("T")

HIGH_WATER = 0.9  # of the room for items: above it, a load balancer had better choose someone else
DECODE_MEMORY = 0.95  # share of the past in the measured decoding time after each image


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

    def read(self, images: Sequence[Pixels], decodings: Sequence[Decoding | None] | None = None) -> list[Reading]:
        """The text of each image, in order, decoded as its decoding asks."""

    def decoding(
        self, alternatives: int, charset: str | None, charset_exclude: str, lexicon: Sequence[str] | None
    ) -> Decoding | None:
        """The decoding that does this; None for the ordinary one. Raises ``ValueError``."""

    def width_bucket(self, height: int, width: int) -> int:
        """The width, at the model's height, that an image of this size is padded to."""

    def warm_up(self) -> None:
        """Run once what a first request should not wait for."""


class PageFinder(Protocol):
    """What the service needs for whole pages; ``model.PageReader`` is one."""

    def find(self, page: Pixels) -> list[FoundLine]:
        """Where the lines of a page are."""

    def steps(self, page: Pixels, found: Sequence[FoundLine]) -> PageSteps:
        """Yields pictures of lines, is sent their readings, and ends with the page's."""


class State(Enum):
    """How far the engine is; only ``READY`` takes work."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True)
class Recognition:
    """One image and its reading.

    ``turn`` is the clockwise turn in degrees that was made after decoding; times are in seconds.
    """

    image: UprightImage
    turn: int
    reading: Reading
    decode_time: float
    queue_time: float
    inference_time: float


class Engine:
    """Owns the recogniser, its batcher and the decoding threads from start to drain."""

    def __init__(
        self,
        open_reader: Callable[[], LineReader],
        image_limits: ImageLimits,
        batch_limits: BatchLimits,
        *,
        observer: BatcherHooks | None = None,
        open_pages: Callable[[LineReader], PageFinder | None] = lambda reader: None,
    ) -> None:
        self._open_reader = open_reader
        self._open_pages = open_pages
        self._image_limits = image_limits
        self._batch_limits = batch_limits
        self._observer = observer
        self.on_failure: Callable[[], None] = lambda: (
            None
        )  # called, from any thread, when the model has failed for good
        self._reader: LineReader | None = None
        self._pages: PageFinder | None = None
        self._batcher: Batcher[Reading] | None = None
        self._workers = max(1, granted_cores() - 1)
        self._decoders = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        self._decoding = 0
        self._decode_seconds = 0.0
        self._failed = False
        self._draining = False

    # Life -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the model and warm it up; ``state`` tells how that went."""
        try:
            reader = await asyncio.to_thread(self._load)
        except Exception:
            log.exception("the model cannot be loaded")
            self._fail()
            return
        accelerated = str(reader.device) != "cpu"  # there, one thread at a time
        batcher = Batcher(
            reader,
            replace(self._batch_limits, threads=1, fill=1) if accelerated else self._batch_limits,
            observer=self._observer,
            is_out_of_memory=_is_out_of_memory,
            is_fatal=_is_fatal,
            on_broken=self._broken,
        )
        batcher.start()
        self._reader, self._batcher = reader, batcher
        log.info("ready: model %s %s on %s", reader.model_id, reader.revision, reader.device)

    def drain(self) -> None:
        """Admit nothing any more; what was admitted is finished."""
        self._draining = True
        if self._batcher is not None:
            self._batcher.close()

    async def stop(self, timeout: float) -> None:
        """Drain and wait at most ``timeout`` seconds for the last answer."""
        self.drain()
        if self._batcher is not None and not await asyncio.to_thread(self._batcher.join, timeout):
            log.error("the model thread did not end within %g seconds", timeout)
        self._decoders.shutdown(wait=False, cancel_futures=True)

    @property
    def state(self) -> State:
        """How far the engine is."""
        if self._failed:
            return State.FAILED
        if self._draining:
            return State.DRAINING
        if self._batcher is None:
            return State.STARTING
        busy = self._batcher.in_flight >= HIGH_WATER * self._batch_limits.max_in_flight
        return State.BUSY if busy else State.READY

    @property
    def alive(self) -> bool:
        """False when only a new process would help: the model failed, its thread died or is stuck."""
        return not self._failed and (self._batcher is None or self._draining or self._batcher.alive)

    @property
    def draining(self) -> bool:
        """Whether ``drain`` was called."""
        return self._draining

    @property
    def ready(self) -> bool:
        """Whether new work is welcome."""
        return self.state is State.READY and self.alive

    @property
    def load(self) -> tuple[int, int, float]:
        """Items in flight, items in the queue, expected wait in seconds."""
        batcher = self._batcher
        return (batcher.in_flight, batcher.queued, batcher.expected_wait) if batcher is not None else (0, 0, 0.0)

    @property
    def reader(self) -> LineReader:
        """The loaded recogniser. Raises ``NotReady`` before it is loaded and after it failed."""
        if self._reader is None or self._failed:
            raise NotReady("The model is not loaded; try again soon.", retry_after=1.0)
        return self._reader

    @property
    def pages(self) -> PageFinder:
        """What finds the lines of pages. Raises ``InvalidOption`` when there is nothing that does."""
        if self._pages is None:
            raise InvalidOption("mode: this service reads single lines only; leave it out or send line.")
        return self._pages

    @property
    def image_limits(self) -> ImageLimits:
        """What an image may measure."""
        return self._image_limits

    # Work -------------------------------------------------------------------------------------------------------------

    def check(self, deadline: float) -> None:
        """Raise what ``admit`` would raise now, before a body is taken in."""
        with _refusals():
            self._ready_batcher().check(deadline)

    def admit(self, items: int, size: int, deadline: float) -> Ticket[Reading]:
        """Room for ``items`` images of ``size`` bytes, all or none; ``deadline`` is of ``time.monotonic``.

        Raises ``QueueFull``, ``NotReady``, ``Draining``.
        """
        decode_wait = self._decoding * self._decode_seconds / self._workers
        with _refusals():
            return self._ready_batcher().admit(items, size, deadline, decode_wait)

    async def decoding(self, options: Options) -> Decoding | None:
        """How the images of a request are to be decoded. Raises ``InvalidOption``, ``NotReady``."""
        if not options.decoded_otherwise:
            return None
        wanted = (options.alternatives, options.charset, options.charset_exclude, options.lexicon)
        try:
            return await self.offload(partial(self.reader.decoding, *wanted))
        except ValueError as error:
            raise InvalidOption(f"{error}.") from None

    async def recognize(
        self,
        ticket: Ticket[Reading],
        read_bytes: Callable[[], bytes],
        turns: Sequence[int] = (0,),
        decoding: Decoding | None = None,
    ) -> Recognition:
        """Decode the image whose bytes ``read_bytes`` gives, read it at each turn and keep the surest.

        Raises ``ImageError``, ``DeadlineExceeded``, ``NotReady``, and what ``read_bytes`` raises.
        """
        with in_time():
            async with asyncio.timeout(ticket.deadline - time.monotonic()):
                image, decode_time = await self.decode(lambda limits: decode(read_bytes(), limits))
                return await self.read(ticket, image, decode_time, turns, decoding)

    async def read(
        self,
        ticket: Ticket[Reading],
        image: UprightImage,
        decode_time: float,
        turns: Sequence[int],
        decoding: Decoding | None,
    ) -> Recognition:
        """Read a decoded image as one line at each turn and keep the surest; raises what the batcher does."""
        futures = [asyncio.wrap_future(ticket.submit(turned(image.pixels, turn), decoding)) for turn in turns]
        served = zip(turns, await asyncio.gather(*futures), strict=True)
        turn, best = max(served, key=lambda one: (bool(one[1].reading.text), one[1].reading.confidence))
        turn = (turn + best.reading.turn) % 360
        return Recognition(image, turn, best.reading, decode_time, best.queue_time, best.inference_time)

    async def offload(self, work: Callable[[], T]) -> T:
        """Do something that takes milliseconds in the decoding pool."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work)

    async def decode(self, opened: Callable[[ImageLimits], UprightImage]) -> tuple[UprightImage, float]:
        """What ``opened`` decodes within the limits, in the decoding pool, and the seconds that it took."""

        def work() -> tuple[UprightImage, float]:
            started = time.perf_counter()
            image = opened(self._image_limits)
            return image, time.perf_counter() - started

        self._decoding += 1
        try:
            image, seconds = await self.offload(work)
        finally:
            self._decoding -= 1
        past = self._decode_seconds or seconds
        self._decode_seconds = DECODE_MEMORY * past + (1.0 - DECODE_MEMORY) * seconds
        return image, seconds

    def _ready_batcher(self) -> Batcher[Reading]:
        if self._draining:
            raise Draining("The service is shutting down.", retry_after=1.0)
        if self._batcher is None or self._failed:
            raise NotReady("The model is not loaded; try again soon.", retry_after=1.0)
        return self._batcher

    def _load(self) -> LineReader:
        reader = self._open_reader()
        reader.warm_up()
        self._pages = self._open_pages(reader)
        # Everything loaded by now stays: to look through it for garbage, again and again, would stop every request
        # for a quarter of a second. The collection after that finds next to nothing, and that is what Python remembers:
        # it puts off the next full one until a quarter as many objects are new.
        gc.freeze()
        gc.collect()
        return reader

    def lost(self, error: BaseException) -> None:
        """The reader has said, from any thread, that it will never read again."""
        log.critical("the model is lost: %s", error)
        self._fail()

    def _broken(self, error: BaseException) -> None:
        log.critical("the model thread has ended", exc_info=error)
        self._fail()

    def _fail(self) -> None:
        self._failed = True
        self.on_failure()


@contextmanager
def _refusals() -> Iterator[None]:
    """The batcher's refusals as those of the contract."""
    try:
        yield
    except Overloaded as error:
        wait = max(1, math.ceil(error.retry_after))
        raise QueueFull(f"Too much is waiting; try again in {wait} s.", retry_after=wait) from None
    except Closed:
        raise Draining("The service is shutting down.", retry_after=1.0) from None
    except BatcherFailed:
        raise NotReady("The model failed.", retry_after=1.0) from None


@contextmanager
def in_time() -> Iterator[None]:
    """What the batcher and the clock say of an admitted request as the errors of the contract."""
    try:
        yield
    except (TimeoutError, Expired):
        raise DeadlineExceeded("The deadline of the request passed before it was read.") from None
    except BatcherFailed:
        raise NotReady("The model failed while it was reading.", retry_after=1.0) from None


def turned(pixels: Pixels, turn: int) -> Pixels:
    """An image turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90)) if turn else pixels


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, without torch here


def _is_fatal(error: Exception) -> bool:
    """Whether the device is lost for this process: torch's error for a failed accelerator, which never heals."""
    return isinstance(error, ModelLost) or type(error).__name__ == "AcceleratorError"

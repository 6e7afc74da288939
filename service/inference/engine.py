"""The recogniser for the event loop: loading, admission, decoding in a bounded pool, drain. Never blocks the loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from linewise.service.cpu import granted_cores
from linewise.service.documents.decode_cost import CostlyImage
from linewise.service.documents.image import ImageLimits
from linewise.service.documents.multipage import QUICK_DECODE_S, OpenImage
from linewise.service.documents.workers.pool import WatchedPool
from linewise.service.documents.workers.process import WALL_LIMIT_S, Stop
from linewise.service.errors import DeadlineExceeded, Draining, InvalidOption, NotReady, QueueFull
from linewise.service.inference.batcher import Batcher, Ticket
from linewise.service.inference.loading import LineReader, PageFinder
from linewise.service.inference.queue import BatchLimits, Kind
from linewise.service.inference.results import BatcherFailed, BatcherHooks, Closed, Expired, Overloaded, is_device_lost
from linewise.service.inference.scheduler import CLIENT_SHARE

if TYPE_CHECKING:  # importing the model takes seconds; only the thread that loads it has to wait
    from linewise.model import Decoding, Reading

log = logging.getLogger("linewise.service")

T = TypeVar("T")

# Of the limit on items in flight and of the target wait; above it, a load balancer should choose another replica.
HIGH_WATER_RATIO = 0.9
DECODE_TIME_EMA_DECAY = 0.95
INITIAL_DECODE_S = 0.002  # of a line, before several are measured
STALL_S = 5.0  # of all quick threads, after which the service is not ready: a quick call takes milliseconds


class State(Enum):
    """Lifecycle of the engine; only ``READY`` invites new work."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    FAILED = "failed"


class Engine:
    """Owner of the recogniser, its batcher and the decoding threads."""

    def __init__(
        self,
        open_reader: Callable[[], LineReader],
        image_limits: ImageLimits,
        batch_limits: BatchLimits,
        *,
        hooks: BatcherHooks | None = None,
        open_pages: Callable[[LineReader], PageFinder | None] = lambda reader: None,
    ) -> None:
        self._open_reader = open_reader
        self._open_pages = open_pages
        self._image_limits = image_limits
        self._batch_limits = batch_limits
        self._hooks = hooks
        # Called, from any thread, when the model has failed permanently.
        self.on_failure: Callable[[], None] = lambda: None
        self._reader: LineReader | None = None
        self._pages: PageFinder | None = None
        self._batcher: Batcher[Reading] | None = None
        self._decode_threads = max(1, granted_cores() - 1)
        # Single lines do not wait behind pages and costly images.
        self._quick_pool = WatchedPool(self._decode_threads, "decode")
        self._slow_pool = WatchedPool(self._decode_threads, "decode-slow")
        self._images_decoding = 0
        self._decode_seconds = INITIAL_DECODE_S
        self._failed = False
        self._leaving = False
        self._draining = False

    # Lifecycle --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load and warm up the model; afterwards ``state`` is ``READY`` or ``FAILED``."""
        try:
            reader = await asyncio.to_thread(self._load)
        except Exception:
            log.exception("the model cannot be loaded")
            self._fail()
            return
        accelerated = str(reader.device) != "cpu"  # an accelerator runs one batch at a time
        batcher = Batcher(
            reader,
            replace(self._batch_limits, threads=1, fill=1) if accelerated else self._batch_limits,
            hooks=self._hooks,
            is_out_of_memory=_is_out_of_memory,
            is_fatal=is_device_lost,
            on_broken=self._on_broken_batcher,
        )
        batcher.start()
        self._reader, self._batcher = reader, batcher
        log.info("ready: model %s %s on %s", reader.model_id, reader.revision, reader.device)

    def announce_shutdown(self) -> None:
        """Fail the readiness probe, so that load balancers choose another replica; work is still admitted."""
        self._leaving = True

    def drain(self) -> None:
        """Stop admission; admitted work is finished."""
        self._draining = True
        if self._batcher is not None:
            self._batcher.close()

    async def stop(self, timeout: float) -> None:
        """Drain, and wait at most ``timeout`` seconds for admitted work."""
        self.drain()
        if self._batcher is not None and not await asyncio.to_thread(self._batcher.join, timeout):
            log.error("the model threads did not end within %g seconds", timeout)
        self._quick_pool.shutdown()
        self._slow_pool.shutdown()

    @property
    def state(self) -> State:
        """Current state."""
        if self._failed:
            return State.FAILED
        if self.draining:
            return State.DRAINING
        if self._batcher is None:
            return State.STARTING
        full = self._batcher.in_flight >= HIGH_WATER_RATIO * self._batch_limits.max_in_flight
        slow = self._batcher.urgent_wait >= HIGH_WATER_RATIO * self._batch_limits.target_wait
        stalled = self._quick_pool.stalled(STALL_S)
        return State.BUSY if full or slow or stalled else State.READY

    @property
    def alive(self) -> bool:
        """False if only a new process helps: the model has failed, or a thread of the model has ended or is stuck.

        A stuck thread that decodes images or detects lines counts, too.
        """
        if self._failed or self.decoders_stuck:
            return False
        return self._batcher is None or self._draining or self._batcher.alive

    @property
    def decoders_stuck(self) -> bool:
        """Whether a call that decodes an image or detects lines exceeds the hang timeout."""
        lateness = max(self._quick_pool.lateness, self._slow_pool.lateness)
        return lateness > self._batch_limits.hang_timeout

    @property
    def decoders_running(self) -> int:
        """Number of threads that decode images, detect lines or write PDFs."""
        return self._quick_pool.running + self._slow_pool.running

    @property
    def draining(self) -> bool:
        """Whether the shutdown was announced or admission has stopped."""
        return self._leaving or self._draining

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
        """The loaded recogniser. Raises ``NotReady``."""
        if self._reader is None or self._failed:
            raise NotReady("The model is not loaded; try again soon.", retry_after=1.0)
        return self._reader

    @property
    def finds_lines(self) -> bool:
        """Whether a page finder is loaded."""
        return self._pages is not None

    @property
    def pages(self) -> PageFinder:
        """The loaded page finder. Raises ``InvalidOption`` if this model has none."""
        if self._pages is None:
            raise InvalidOption("mode: this service reads single lines only; leave it out or send line.")
        return self._pages

    @property
    def image_limits(self) -> ImageLimits:
        """Limits on the size of images."""
        return self._image_limits

    # Work -------------------------------------------------------------------------------------------------------------

    def check(self, deadline: float, client: str = "") -> None:
        """Raise what ``admit`` would raise now, to reject a request before its body is received."""
        with _service_errors():
            self._ready_batcher().check(deadline, client)

    def admit(
        self, items: int, size: int, deadline: float, *, client: str = "", weight: float = 1.0, kind: Kind = "line"
    ) -> Ticket[Reading]:
        """Admit ``items`` images of ``size`` bytes in total, all or none; ``deadline`` is on ``time.monotonic``.

        ``client``, ``weight`` and ``kind`` are as in ``Demand``. What is admitted is read, however many lines it has.
        Raises ``QueueFull``, ``NotReady``, ``Draining``.
        """
        decode_wait = self._images_decoding * self._decode_seconds / self._decode_threads
        with _service_errors():
            return self._ready_batcher().admit(
                items, size, deadline, decode_wait, client=client, weight=weight, kind=kind
            )

    async def decoding(
        self, alternatives: int, charset: str | None, charset_exclude: str, lexicon: Sequence[str] | None
    ) -> Decoding | None:
        """Return the decoding for these options. Raises ``InvalidOption``, ``NotReady``."""
        try:
            return await self.offload(partial(self.reader.decoding, alternatives, charset, charset_exclude, lexicon))
        except ValueError as error:
            raise InvalidOption(f"{error}.") from None

    async def offload(self, work: Callable[[], T]) -> T:
        """Run ``work``, which takes milliseconds, in a thread."""
        return await self._quick_pool.run(work, self._usual_due())

    async def offload_slow(self, work: Callable[[], T], allowance: float = 0.0) -> T:
        """Run ``work``, which takes longer, in a thread of another pool.

        It is stuck when it takes ``allowance`` seconds more than the hang timeout.
        """
        return await self._slow_pool.run(work, self._usual_due(), allowance)

    async def decode(self, ticket: Ticket[Reading], open_image: OpenImage[T]) -> tuple[T, float]:
        """Open an image within the limits: quickly, or if it is costly, aside; return it and the seconds it took."""

        def work(stop: Stop | None) -> tuple[T, float]:
            started = time.perf_counter()
            image = open_image(self._image_limits, stop)
            return image, time.perf_counter() - started

        due = ticket.next_decode_due(QUICK_DECODE_S / CLIENT_SHARE)
        self._images_decoding += 1
        try:
            image, seconds = await self._quick_pool.run(partial(work, None), due)
        except CostlyImage:
            pass
        else:
            past = self._decode_seconds
            self._decode_seconds = DECODE_TIME_EMA_DECAY * past + (1.0 - DECODE_TIME_EMA_DECAY) * seconds
            return image, seconds
        finally:
            self._images_decoding -= 1
        ticket.set_aside()
        with Stop() as stop:
            return await self._slow_pool.run(partial(work, stop), due, WALL_LIMIT_S)

    def share_of_threads(self, seconds: float) -> float:
        """Return how long all threads that decode would take for so many seconds of one."""
        return seconds / self._decode_threads

    def _usual_due(self) -> float:
        return time.monotonic() + self._batch_limits.urgent_timeout

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
        # Permanent objects are excluded from garbage collection: scanning them would stop all requests for a quarter of
        # a second each time. The collection that follows finds almost nothing, and CPython delays the next full one
        # until the number of new objects is a quarter of what the last one left.
        gc.freeze()
        gc.collect()
        return reader

    def handle_model_loss(self, error: BaseException) -> None:
        """Handle the permanent failure of the reader; callable from any thread."""
        log.critical("the model is lost: %s", error)
        self._fail()

    def _on_broken_batcher(self, error: BaseException) -> None:
        log.critical("the model thread has ended", exc_info=error)
        self._fail()

    def _fail(self) -> None:
        self._failed = True
        self.on_failure()


@contextmanager
def _service_errors() -> Iterator[None]:
    """Convert the batcher's refusals to service errors."""
    try:
        yield
    except Overloaded as error:
        wait = max(1, math.ceil(error.retry_after))
        raise QueueFull(f"Too much is waiting; try again in {wait} s.", retry_after=wait) from None
    except Closed:
        raise Draining("The service is shutting down.", retry_after=1.0) from None
    except BatcherFailed:
        raise NotReady("The model failed.", retry_after=1.0) from None


@asynccontextmanager
async def within(deadline: float) -> AsyncIterator[None]:
    """Cancel the block at ``deadline`` on ``time.monotonic``, and convert the batcher's errors to service errors.

    Raises ``DeadlineExceeded``, ``NotReady``.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except (TimeoutError, Expired):
        raise DeadlineExceeded("The deadline of the request passed before it was read.") from None
    except BatcherFailed:
        raise NotReady("The model failed while it was reading.", retry_after=1.0) from None


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's, without torch here

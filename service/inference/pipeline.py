"""Recognition of one uploaded file: decoding, line detection, batched reading, document model.

An image is read as one line, or as a page whose lines are batched together with those of other requests; by default
as a page only where the reading as one line is not sure.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from linewise.model import PageReading, is_sure_line, likelier
from linewise.service.documents.assembly import page_from_line, page_from_lines
from linewise.service.documents.conversion import Pixels
from linewise.service.documents.image import LINE_IMAGE_SIDE_PX, UprightImage, rotated
from linewise.service.documents.layout import Document, Page
from linewise.service.documents.multipage import OpenedFile, open_line, open_line_or_pages, open_page, page_count
from linewise.service.documents.workers.process import WALL_LIMIT_S, Stop
from linewise.service.inference.batcher import Ticket
from linewise.service.inference.engine import Engine, within
from linewise.service.inference.loading import PageFinder
from linewise.service.inference.results import BatchedResult

if TYPE_CHECKING:
    from linewise.model import Decoding, FoundLine, PageSteps, Reading

# More crops of one page are not in the queue at the same time.
MAX_PAGE_LINES_IN_FLIGHT = 64

# CPU time of reading a line with alternatives, a charset or a lexicon, as a multiple of that without: 1.3 to 1.8.
BEAM_SEARCH_WEIGHT = 1.5


@dataclass(frozen=True)
class RecognitionOptions:
    """How to read a file.

    ``turns`` are the clockwise rotations in degrees to try; pages use the first one, and are turned further as their
    text suggests if ``finds_orientation`` is set. Mode ``auto`` reads an image as one line and, where that is not sure,
    as a page as well. A line whose confidence is below ``min_confidence`` is withheld. ``with_words`` and
    ``with_characters`` add the words and the characters of each line to the document. A document of several pages may
    take ``page_timeout`` seconds longer for each page after the first, until ``latest_deadline`` at most.
    """

    mode: Literal["auto", "line", "page"] = "auto"
    turns: tuple[int, ...] = (0,)
    finds_orientation: bool = True
    decoding: Decoding | None = None
    min_confidence: float = 0.0
    with_words: bool = False
    with_characters: bool = False
    page_timeout: float = 0.0
    latest_deadline: float = math.inf

    @property
    def weight(self) -> float:
        """Work of reading a line, as a multiple of that with the default decoding."""
        return 1.0 if self.decoding is None else BEAM_SEARCH_WEIGHT


@dataclass(frozen=True)
class RecognitionResult:
    """A recognised document and the seconds spent on decoding, in the queue and in the model."""

    document: Document
    decode_time: float
    queue_time: float
    inference_time: float


@dataclass(frozen=True)
class _LineResult:
    """The reading of an image as one line; ``turn`` is the clockwise rotation in degrees before the reader's own."""

    turn: int
    reading: Reading
    queue_time: float
    inference_time: float


async def recognize(
    engine: Engine, ticket: Ticket[Reading], read_bytes: Callable[[], bytes], options: RecognitionOptions
) -> RecognitionResult:
    """Read the file whose bytes ``read_bytes`` returns.

    Raises ``ImageError``, ``DeadlineExceeded``, ``QueueFull``, ``NotReady``, ``InvalidOption`` for a mode that the
    model does not support, and what ``read_bytes`` raises.
    """
    async with within(ticket.deadline):
        if options.mode == "line" or (options.mode == "auto" and not engine.finds_lines):
            image, decode_time = await engine.decode(ticket, partial(open_line, read_bytes))
            return _from_line(image, decode_time, await _read_line(ticket, image, options), options)
        if options.mode == "auto":
            file, decode_time = await engine.decode(ticket, partial(open_line_or_pages, read_bytes))
            if file.line_image is not None:
                return await _read_auto(engine, ticket, file, decode_time, options)
            data, count = file.data, file.pages
        else:
            engine.pages  # noqa: B018 - raises InvalidOption before the file is read
            data = await engine.offload(read_bytes)
            with Stop() as stop:
                counting = partial(page_count, data, engine.image_limits.max_pages, stop)
                count = await engine.offload_slow(counting, WALL_LIMIT_S)
        _announce_pages(ticket, count, options)
    async with within(ticket.deadline):
        results: list[RecognitionResult] = []
        for number in range(count):  # sequentially: one page's pixels are in memory at a time
            image, decode_time = await engine.decode(ticket, partial(open_page, data, number))
            reading, queue_time, inference_time = await _read_page(engine, ticket, image, decode_time, options)
            page = await engine.offload_slow(partial(_page, image, reading, options))
            results.append(RecognitionResult(Document((page,)), decode_time, queue_time, inference_time))
    return RecognitionResult(
        Document(tuple(page for result in results for page in result.document.pages)),
        sum(result.decode_time for result in results),
        sum(result.queue_time for result in results),
        sum(result.inference_time for result in results),
    )


async def _read_auto(
    engine: Engine, ticket: Ticket[Reading], file: OpenedFile, decode_time: float, options: RecognitionOptions
) -> RecognitionResult:
    """Read an image as one line and, where that is not sure, as a page as well; keep the likelier reading."""
    line_image = file.line_image
    assert line_image is not None
    line = await _read_line(ticket, line_image, options)
    line_pixels = rotated(line_image.pixels, line.turn)
    if await engine.offload(partial(is_sure_line, line_pixels, line.reading)):
        return _from_line(line_image, decode_time, line, options)
    if min(line_image.pixels.shape[:2]) >= LINE_IMAGE_SIDE_PX:  # the few lines of a smaller image count as they come
        _announce_pages(ticket, 1, options)
    image = line_image
    if line_image.scale > 1:  # reduced to the size of a line
        image, seconds = await engine.decode(ticket, partial(open_page, file.data, 0))
        decode_time += seconds
    page, queue_time, inference_time = await _read_page(engine, ticket, image, decode_time, options)
    upright = rotated(image.pixels, options.turns[0])
    choice = await engine.offload_slow(partial(likelier, upright, line.reading, page))
    if not isinstance(choice, PageReading):
        result = _from_line(line_image, decode_time, line, options)
        return replace(
            result, queue_time=result.queue_time + queue_time, inference_time=result.inference_time + inference_time
        )
    document = Document((await engine.offload_slow(partial(_page, image, choice, options)),))
    return RecognitionResult(document, decode_time, line.queue_time + queue_time, line.inference_time + inference_time)


async def _read_line(ticket: Ticket[Reading], image: UprightImage, options: RecognitionOptions) -> _LineResult:
    """Read an image as one line at each turn, and keep the most confident reading."""
    turned = [rotated(image.pixels, turn) for turn in options.turns]
    results = zip(options.turns, await _read_together(ticket, turned, options.decoding), strict=True)
    turn, best = max(results, key=lambda item: (bool(item[1].reading.text), item[1].reading.confidence))
    return _LineResult(turn, best.reading, best.queue_time, best.inference_time)


def _from_line(
    image: UprightImage, decode_time: float, line: _LineResult, options: RecognitionOptions
) -> RecognitionResult:
    page = page_from_line(
        image,
        (line.turn + line.reading.turn) % 360,
        line.reading,
        min_confidence=options.min_confidence,
        with_words=options.with_words,
        with_characters=options.with_characters,
    )
    return RecognitionResult(Document((page,)), decode_time, line.queue_time, line.inference_time)


def _page(image: UprightImage, reading: PageReading, options: RecognitionOptions) -> Page:
    return page_from_lines(
        image,
        (options.turns[0] + reading.turn) % 360,
        reading,
        min_confidence=options.min_confidence,
        with_words=options.with_words,
        with_characters=options.with_characters,
    )


async def _read_page(
    engine: Engine, ticket: Ticket[Reading], image: UprightImage, decode_time: float, options: RecognitionOptions
) -> tuple[PageReading, float, float]:
    """Detect and read the lines of a page; return its reading and the seconds in the queue and in the model."""
    finder = engine.pages
    upright = rotated(image.pixels, options.turns[0])
    lines, detection_time = await engine.offload_slow(partial(_find_lines, finder, upright))
    steps = finder.steps(upright, lines, options.finds_orientation)
    reading, queue_time, read_time = await _run_steps(engine, ticket, steps, options.decoding)
    ticket.finish_page(engine.share_of_threads(decode_time + detection_time))
    return reading, queue_time, detection_time + read_time


def _find_lines(finder: PageFinder, page: Pixels) -> tuple[list[FoundLine], float]:
    """Find the lines of a page; return them and the seconds it took."""
    started = time.perf_counter()
    return finder.find(page), time.perf_counter() - started


async def _run_steps(
    engine: Engine, ticket: Ticket[Reading], steps: PageSteps, decoding: Decoding | None
) -> tuple[PageReading, float, float]:
    """Read the lines of a page; return its reading and the seconds in the queue and in the model."""
    queue_time = inference_time = 0.0
    step: list[Pixels] | PageReading = await engine.offload_slow(partial(next, steps))
    while isinstance(step, list):
        readings: list[Reading] = []
        for first in range(0, len(step), MAX_PAGE_LINES_IN_FLIGHT):
            results = await _read_together(ticket, step[first : first + MAX_PAGE_LINES_IN_FLIGHT], decoding)
            readings += (result.reading for result in results)
            queue_time += max(result.queue_time for result in results)
            inference_time += max(result.inference_time for result in results)
        step = await engine.offload_slow(partial(_advance, steps, readings))
    return step, queue_time, inference_time


async def _read_together(
    ticket: Ticket[Reading], images: Sequence[Pixels], decoding: Decoding | None
) -> list[BatchedResult[Reading]]:
    """Read images that make one result: when one of them fails, the others are not read any more."""
    futures = [asyncio.wrap_future(ticket.submit(image, decoding)) for image in images]
    try:
        return await asyncio.gather(*futures)
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _announce_pages(ticket: Ticket[Reading], pages: int, options: RecognitionOptions) -> None:
    """Account for the pages of a document, of which one is admitted with mode ``page``."""
    deadline = min(ticket.deadline + (pages - 1) * options.page_timeout, options.latest_deadline)
    ticket.add_pages(pages - (options.mode == "page"), deadline)


def _advance(steps: PageSteps, readings: list[Reading]) -> list[Pixels] | PageReading:
    """Send readings to the page's steps; return the next images of lines, or the page's reading."""
    try:
        return steps.send(readings)
    except StopIteration as end:
        reading: PageReading = end.value
        return reading

"""One image by its mode: as a line, as a page whose lines go through the same batches, or as what it seems to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from linewise.service.api.options import Options
from linewise.service.documents.image import Pixels, UprightImage
from linewise.service.documents.multipage import decode_page, page_count
from linewise.service.inference.batcher import Ticket
from linewise.service.inference.engine import Engine, Recognition, in_time, turned
from linewise.service.inference.queue import BatchedResult

if TYPE_CHECKING:
    from linewise.model import Decoding, PageReading, PageSteps, Reading

# Lines of one page that wait at the same time: with more, a page would fill the queue of everyone.
TOGETHER = 64


@dataclass(frozen=True)
class PageRecognition:
    """One page and its lines.

    ``turn`` is the clockwise turn in degrees that was made after decoding; times are in seconds.
    """

    image: UprightImage
    turn: int
    page: PageReading
    decode_time: float
    queue_time: float
    inference_time: float


@dataclass(frozen=True)
class DocumentRecognition:
    """Several pages of one file, in order."""

    pages: tuple[PageRecognition, ...]

    @property
    def decode_time(self) -> float:
        """Seconds for decoding all of them; the other times likewise."""
        return sum(page.decode_time for page in self.pages)

    @property
    def queue_time(self) -> float:
        return sum(page.queue_time for page in self.pages)

    @property
    def inference_time(self) -> float:
        return sum(page.inference_time for page in self.pages)


Outcome = Recognition | PageRecognition | DocumentRecognition


async def recognize(
    engine: Engine,
    ticket: Ticket[Reading],
    read_bytes: Callable[[], bytes],
    options: Options,
    decoding: Decoding | None = None,
) -> Outcome:
    """Read the image or document whose bytes ``read_bytes`` gives, as the options' mode says.

    Raises ``ImageError``, ``DeadlineExceeded``, ``QueueFull``, ``NotReady``, ``InvalidOption`` for a
    mode that the model does not have, and what ``read_bytes`` raises.
    """
    if options.mode == "line":
        return await engine.recognize(ticket, read_bytes, options.turns, decoding)
    finder = engine.pages
    with in_time():
        async with asyncio.timeout(ticket.deadline - time.monotonic()):
            data = await engine.offload(read_bytes)
            count = await engine.offload(partial(page_count, data, engine.image_limits.max_pages))
            pages: list[PageRecognition] = []
            for number in range(count):  # one after the other, so that one page's pixels are held at a time
                image, decode_time = await engine.decode(partial(decode_page, data, number))
                found_in = turned(image.pixels, options.turns[0])
                started = time.monotonic()
                found = await engine.offload(partial(finder.find, found_in))
                if options.mode == "auto" and count == 1 and len(found) < 2:
                    return await engine.read(ticket, image, decode_time, options.turns, decoding)
                spent = time.monotonic() - started
                steps = finder.steps(found_in, found)
                reading, waited, read = await _page(engine, ticket.deadline, steps, decoding)
                turn = (options.turns[0] + reading.turn) % 360
                pages.append(PageRecognition(image.sized(), turn, reading, decode_time, waited, spent + read))
    return pages[0] if count == 1 else DocumentRecognition(tuple(pages))


async def _page(
    engine: Engine, deadline: float, steps: PageSteps, decoding: Decoding | None
) -> tuple[PageReading, float, float]:
    """A page's reading, and the seconds that its lines waited and took."""
    waited = read = 0.0
    step: list[Pixels] | PageReading = await engine.offload(partial(next, steps))
    while isinstance(step, list):
        readings: list[Reading] = []
        for first in range(0, len(step), TOGETHER):
            served = await _together(engine, deadline, step[first : first + TOGETHER], decoding)
            readings += (one.reading for one in served)
            waited += max(one.queue_time for one in served)
            read += max(one.inference_time for one in served)
        step = await engine.offload(partial(_sent, steps, readings))
    return step, waited, read


async def _together(
    engine: Engine, deadline: float, pictures: Sequence[Pixels], decoding: Decoding | None
) -> list[BatchedResult[Reading]]:
    with engine.admit(len(pictures), 0, deadline) as lines:
        return await asyncio.gather(*(asyncio.wrap_future(lines.submit(one, decoding)) for one in pictures))


def _sent(steps: PageSteps, readings: list[Reading]) -> list[Pixels] | PageReading:
    """What comes next of a page's steps: more pictures of lines, or the page's reading."""
    try:
        return steps.send(readings)
    except StopIteration as end:
        reading: PageReading = end.value
        return reading

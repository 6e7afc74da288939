"""One image by its mode: as a line, as a page whose lines go through the same batches, or as what it seems to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from service.batching import Ticket
from service.engine import Engine, Recognition, in_time, turned
from service.images import PAGE_SIDE, Pixels, UprightImage
from service.jobs import Served
from service.options import Options

if TYPE_CHECKING:
    from model import Decoding, PageReading, PageSteps, Reading

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


async def recognize(
    engine: Engine,
    ticket: Ticket[Reading],
    unwrap: Callable[[], bytes],
    options: Options,
    decoding: Decoding | None = None,
) -> Recognition | PageRecognition:
    """Read the image whose bytes ``unwrap`` gives, as the options' mode says.

    Raises ``ImageError``, ``DeadlineExceeded``, ``QueueFull``, ``NotReady``, ``InvalidOption`` for a
    mode that the model does not have, and what ``unwrap`` raises.
    """
    if options.mode == "line":
        return await engine.recognize(ticket, unwrap, options.turns, decoding)
    finder = engine.pages
    with in_time():
        async with asyncio.timeout(ticket.deadline - time.monotonic()):
            image, decode_time = await engine.decode(unwrap, PAGE_SIDE)
            pixels = turned(image.pixels, options.turns[0])
            started = time.monotonic()
            found = await engine.offload(partial(finder.find, pixels))
            if options.mode == "auto" and len(found) < 2:
                return await engine.read(ticket, image, decode_time, options.turns, decoding)
            steps = finder.steps(pixels, found)
            waited, read = 0.0, time.monotonic() - started
            pictures = await engine.offload(partial(next, steps))
            while True:
                readings: list[Reading] = []
                for first in range(0, len(pictures), TOGETHER):
                    served = await _together(engine, ticket.deadline, pictures[first : first + TOGETHER], decoding)
                    readings += (one.reading for one in served)
                    waited += max(one.queue_time for one in served)
                    read += max(one.inference_time for one in served)
                step = await engine.offload(partial(_sent, steps, readings))
                if not isinstance(step, list):
                    break
                pictures = step
    turn = (options.turns[0] + step.turn) % 360
    return PageRecognition(image, turn, step, decode_time, waited, read)


async def _together(
    engine: Engine, deadline: float, pictures: Sequence[Pixels], decoding: Decoding | None
) -> list[Served[Reading]]:
    with engine.admit(len(pictures), 0, deadline) as lines:
        return await asyncio.gather(*(asyncio.wrap_future(lines.submit(one, decoding)) for one in pictures))


def _sent(steps: PageSteps, readings: list[Reading]) -> list[Pixels] | PageReading:
    """What comes next of a page's steps: more pictures of lines, or the page's reading."""
    try:
        return steps.send(readings)
    except StopIteration as end:
        reading: PageReading = end.value
        return reading

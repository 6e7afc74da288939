"""Pictures of pages for the demo page: upright, and of files that browsers do not show."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from PIL import Image
from starlette.responses import Response

from linewise.service.api.cancellation import cancel_on_disconnect
from linewise.service.api.routes import deadline_of, engine_of, settings_of
from linewise.service.api.uploads import parse_single
from linewise.service.documents.decode_cost import CostlyImage
from linewise.service.documents.image import ImageLimits, UprightImage, rotated
from linewise.service.documents.multipage import decode_page, page_count
from linewise.service.documents.workers.process import Stop
from linewise.service.errors import InvalidOption
from linewise.service.inference.batcher import Ticket
from linewise.service.inference.engine import Engine, within
from linewise.service.middleware.auth import identify_and_charge

if TYPE_CHECKING:
    from linewise.model import Reading

MAX_SIDE_PX = 1600
JPEG_QUALITY = 80

preview = APIRouter(include_in_schema=False)


@preview.post("/web/preview", dependencies=[Depends(identify_and_charge)])
async def draw_preview(
    request: Request,
    page: Annotated[int, Query(ge=1)] = 1,
    rotation: Annotated[Literal["0", "90", "180", "270"], Query()] = "0",
) -> Response:
    """Draw one page of a file as a JPEG of at most 1600 pixels a side.

    ``rotation`` is the ``orientation_applied`` of the page's recognition: clockwise degrees from the stored pixels. A
    preview is admitted like a page that is read, since it costs as much decoding.
    """
    engine, timeout = engine_of(request), settings_of(request).request_timeout
    engine.check(time.monotonic() + timeout, request.state.client)
    upload = await parse_single(request, engine.offload)
    deadline = deadline_of(request, timeout)
    with engine.admit(1, upload.size, deadline, client=request.state.client, kind="page") as ticket:
        drawing = _draw(engine, ticket, upload.items[0].read_bytes, page, int(rotation))
        content = await cancel_on_disconnect(request, drawing)
    return Response(content, media_type="image/jpeg")


async def _draw(
    engine: Engine, ticket: Ticket[Reading], read_bytes: Callable[[], bytes], page: int, rotation: int
) -> bytes:
    async with within(ticket.deadline):
        image, _ = await engine.decode(ticket, partial(_open, read_bytes, page))
        return await engine.offload_slow(partial(_encode, image, rotation))


def _open(read_bytes: Callable[[], bytes], page: int, limits: ImageLimits, stop: Stop | None) -> UprightImage:
    """Decode a page, from 1, which is never quick; an ``OpenImage`` after the first arguments."""
    if stop is None:
        raise CostlyImage
    data = read_bytes()
    pages = page_count(data, limits.max_pages, stop)
    if page > pages:
        raise InvalidOption(f"page: the file has {pages} pages; ask for one from 1 to {pages}.")
    return decode_page(data, page - 1, limits, stop)


def _encode(image: UprightImage, rotation: int) -> bytes:
    """Rotate a picture, upright by its metadata, until it is rotated by ``rotation`` in all; encode it as a JPEG."""
    picture = Image.fromarray(rotated(image.pixels, (rotation - image.orientation_applied) % 360))
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), reducing_gap=2.0)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()

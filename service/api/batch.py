"""Recognition of several images of one request, answered together or as a stream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from linewise.service.api import responses
from linewise.service.api.options import Options
from linewise.service.api.schemas import BatchItem, BatchResponse, BatchSummary
from linewise.service.api.uploads import UploadedImage
from linewise.service.errors import InternalError, ServiceError, note_problem, request_id_of
from linewise.service.inference.batcher import Ticket
from linewise.service.inference.engine import Engine
from linewise.service.inference.pipeline import RecognitionOptions, recognize
from linewise.service.middleware.auth import charge_pages

if TYPE_CHECKING:
    from linewise.model import Reading

log = logging.getLogger("linewise.service")


class BatchRequest:
    """An admitted request for several images; the caller releases the ticket."""

    def __init__(
        self,
        engine: Engine,
        ticket: Ticket[Reading],
        items: Sequence[UploadedImage],
        options: Options,
        recognition_options: RecognitionOptions,
        scope: Scope,
        started: float,
    ) -> None:
        self._engine = engine
        self._ticket = ticket
        self._items = items
        self._count = len(items)
        self._options = options
        self._recognition_options = recognition_options
        self._scope = scope
        self._request_id = request_id_of(scope)
        self._started = started
        self._reader = engine.reader

    async def collect(self) -> BatchResponse:
        """Recognise all images; outcomes are in the order of the request."""
        results = await asyncio.gather(*(self._recognize(index) for index in range(self._count)))
        failed = sum(result.error is not None for result in results)
        return BatchResponse(results=results, summary=self._summary(failed))

    def stream(self, media_type: str) -> StreamingResponse:
        """Stream each outcome as a line of JSON when it is ready, then the summary; the stream releases the ticket."""
        return _TicketedStream(self._ticket, self._lines(), media_type=media_type)

    async def _lines(self) -> AsyncGenerator[str]:
        failed = 0
        tasks = [asyncio.ensure_future(self._recognize(index)) for index in range(self._count)]
        asyncio.gather(*tasks).add_done_callback(lambda _: self._release())
        try:
            for done in asyncio.as_completed(tasks):
                outcome = await done
                failed += outcome.error is not None
                yield outcome.model_dump_json(exclude_none=True) + "\n"
        finally:
            for task in tasks:
                task.cancel()
        yield f'{{"summary":{self._summary(failed).model_dump_json()}}}\n'

    def _release(self) -> None:
        """Free capacity and images once all are read, even if the client receives slowly."""
        self._ticket.release()
        self._items = ()
        release_body: Callable[[], None] = self._scope["state"].get("release_body", lambda: None)
        release_body()

    async def _recognize(self, index: int) -> BatchItem:
        item = self._items[index]
        try:
            result = await recognize(self._engine, self._ticket, item.read_bytes, self._recognition_options)
            charge_pages(self._scope, len(result.document.pages))
            return responses.item(index, item.id, result, self._options)
        except ServiceError as error:
            failure = error
        except Exception:
            log.exception("unexpected error, request %s, image %d", self._request_id, index)
            failure = InternalError()
        note_problem(self._scope, failure.code)
        return responses.failed_item(index, item.id, failure)

    def _summary(self, failed: int) -> BatchSummary:
        seconds = time.monotonic() - self._started
        return responses.summary(self._request_id, self._reader, self._count, failed, seconds)


class _TicketedStream(StreamingResponse):
    """A stream that releases its ticket at the end, even if the client disconnects before the first line."""

    def __init__(self, ticket: Ticket[Reading], lines: AsyncGenerator[str], media_type: str) -> None:
        super().__init__(lines, media_type=media_type)
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._ticket:
            await super().__call__(scope, receive, send)

"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Unpack

import httpx2

from linewise.service.client.batches import Batch, ImageSource, batched, read_image
from linewise.service.client.encoding import BATCH_PATH, RECOGNIZE_PATH, Options, RequestEncoder, connection_arguments
from linewise.service.client.results import Result, ServiceFailure, parse_response, parse_single
from linewise.service.client.retry import Deadline


class AsyncClient:
    """Asyncio client; ``timeout`` is per call in seconds, retries included."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._http = httpx2.AsyncClient(transport=transport, **connection_arguments(url, api_key))

    async def read(self, image: ImageSource, **options: Unpack[Options]) -> Result:
        """Read the text of one image. Raises ``ServiceFailure``."""
        return parse_single(await self._post(RECOGNIZE_PATH, RequestEncoder(options).single(read_image(image))))

    async def read_many(
        self, images: Iterable[ImageSource], *, concurrency: int = 4, **options: Unpack[Options]
    ) -> AsyncIterator[Result | ServiceFailure]:
        """Yield one outcome per image, in order; see ``Client.read_many``."""
        encoder = RequestEncoder(options)
        pending: deque[asyncio.Task[list[Result | ServiceFailure]]] = deque()
        try:
            for batch in batched(images):
                if len(pending) == concurrency:
                    for outcome in await pending.popleft():
                        yield outcome
                pending.append(asyncio.create_task(self._read_batch(batch, encoder)))
            while pending:
                for outcome in await pending.popleft():
                    yield outcome
        finally:
            for task in pending:
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read_batch(self, batch: Batch, encoder: RequestEncoder) -> list[Result | ServiceFailure]:
        if not batch.images:
            return batch.failures
        try:
            return batch.outcomes(await self._post(BATCH_PATH, encoder.batch(batch)))
        except ServiceFailure as failure:
            halves = batch.halves_after(failure)
            if not halves:
                return batch.failed(failure)
        return [outcome for half in halves for outcome in await self._read_batch(half, encoder)]

    async def _post(self, path: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        deadline = Deadline(self._timeout)
        while True:
            response = None
            try:
                async with asyncio.timeout(deadline.time_left):
                    response = await self._http.post(path, **arguments, **deadline.request_arguments())
                return parse_response(response)
            except (httpx2.HTTPError, TimeoutError, ServiceFailure) as error:
                pause = deadline.pause_after(error, response)
            await asyncio.sleep(pause)

"""The blocking client."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Unpack

import httpx2

from linewise.service.client.batches import Batch, ImageSource, batched, read_image
from linewise.service.client.encoding import BATCH_PATH, RECOGNIZE_PATH, Options, RequestEncoder, connection_arguments
from linewise.service.client.results import Result, ServiceFailure, parse_response, parse_single
from linewise.service.client.retry import Deadline, run_within


class Client:
    """Blocking client, usable from several threads; ``timeout`` is per call in seconds, retries included.

    with Client("http://127.0.0.1:8000") as client:
        print(client.read("receipt.png").text)
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._http = httpx2.Client(transport=transport, **connection_arguments(url, api_key))

    def read(self, image: ImageSource, **options: Unpack[Options]) -> Result:
        """Read the text of one image. Raises ``ServiceFailure``."""
        return parse_single(self._post(RECOGNIZE_PATH, RequestEncoder(options).single(read_image(image))))

    def read_many(
        self, images: Iterable[ImageSource], *, concurrency: int = 4, **options: Unpack[Options]
    ) -> Iterator[Result | ServiceFailure]:
        """Yield one outcome per image, in order; a failed image does not stop the others.

        At most ``concurrency`` requests run at a time; ``images`` is consumed only as far as they need.
        """
        encoder = RequestEncoder(options)
        pending: deque[Future[list[Result | ServiceFailure]]] = deque()
        with ThreadPoolExecutor(concurrency) as pool:
            try:
                for batch in batched(images):
                    if len(pending) == concurrency:
                        yield from pending.popleft().result()
                    pending.append(pool.submit(self._read_batch, batch, encoder))
                while pending:
                    yield from pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_batch(self, batch: Batch, encoder: RequestEncoder) -> list[Result | ServiceFailure]:
        if not batch.images:
            return batch.failures
        try:
            return batch.outcomes(self._post(BATCH_PATH, encoder.batch(batch)))
        except ServiceFailure as failure:
            halves = batch.halves_after(failure)
            if not halves:
                return batch.failed(failure)
        return [outcome for half in halves for outcome in self._read_batch(half, encoder)]

    def _post(self, path: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        deadline = Deadline(self._timeout)
        while True:
            response = None
            try:
                post = partial(self._http.post, path, **arguments, **deadline.request_arguments())
                response = run_within(deadline.time_left, post)
                return parse_response(response)
            except (httpx2.HTTPError, TimeoutError, ServiceFailure) as error:
                pause = deadline.pause_after(error, response)
            time.sleep(pause)

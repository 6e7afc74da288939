"""The official Python client: one image, or thousands in order.

    with Client("http://127.0.0.1:8000") as client:
        print(client.read("receipt.png").text)
        for path, result in zip(paths, client.read_many(paths), strict=True):
            print(path, result.text if isinstance(result, Result) else result)

It needs only ``httpx2``. A refusal that a later try can mend - 429, 503, a lost connection - is tried again after the
``Retry-After`` it came with, as long as the call's deadline allows. So is a 500 that the service did not write: a proxy
answers so when the replica behind it died. Reading is free of side effects, so that is safe.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import httpx2

ImageSource = bytes | str | os.PathLike[str]  # the file's bytes, or its path
Orientation = Literal["0", "90", "180", "270", "auto"]
Mode = Literal["line", "page", "auto"]

BATCH_IMAGES = 32
BATCH_BYTES = 16 * 2**20
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between tries when the service names no time
_RETRIED = frozenset({429, 502, 503})


@dataclass(frozen=True)
class Character:
    """One character; the corners are clockwise from its own top left, in pixels of the upright image."""

    text: str
    confidence: float
    polygon: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Alternative:
    """Another text that the image may hold."""

    text: str
    confidence: float


@dataclass(frozen=True)
class Line:
    """One line of a page; the corners are clockwise from where its text begins on top.

    Lines of one ``row`` stand side by side, as the cells of a table do.
    """

    text: str
    confidence: float
    confidence_min: float
    polygon: tuple[tuple[float, float], ...]
    row: int
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Result:
    """The text of one image; confidences from 0 to 1, sizes in pixels.

    ``characters`` needs ``chars=True``, ``alternatives`` their number. ``mode`` is ``line`` or ``page``, and only a
    page has ``lines``, in reading order; a PDF or TIFF with several has them in its ``pages``.
    """

    text: str
    confidence: float
    confidence_min: float
    width: int
    height: int
    orientation_applied: int
    warnings: tuple[str, ...]
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    mode: str = "line"
    lines: tuple[Line, ...] = ()
    pages: tuple[Result, ...] = ()


class ServiceFailure(Exception):
    """An answer that is no text, or no answer: ``status`` is 0 when no service was reached or no file was read.

    ``code`` is one of the service's codes, ``unreachable``, ``unreadable_file`` or ``unexpected``.
    """

    def __init__(self, status: int, code: str, detail: str, request_id: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id


class Options(TypedDict, total=False):
    """What may be asked beside the text; the service's own documentation says what each means."""

    chars: bool
    alternatives: int
    charset: str
    charset_exclude: str
    lexicon: Sequence[str]
    min_confidence: float
    orientation: Orientation
    mode: Mode


class _Request:
    """Query, form fields and whether the image has to travel in a form, for some options."""

    def __init__(self, options: Options) -> None:
        chosen: dict[str, Any] = dict(options)
        unknown = chosen.keys() - Options.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
        lexicon = chosen.pop("lexicon", None)
        self.query = {"detail": "chars"} if chosen.pop("chars", False) else {}
        self.query |= {name: str(value) for name, value in chosen.items() if value is not None}
        self.fields = {} if lexicon is None else {"lexicon": "\n".join(lexicon)}  # too long for an address

    def single(self, content: bytes) -> dict[str, Any]:
        """What to post for one image."""
        if not self.fields:
            return {"params": self.query, "content": content}
        return {"params": self.query, "files": {"file": content}, "data": self.fields}

    def several(self, batch: list[bytes | ServiceFailure]) -> dict[str, Any]:
        """What to post for several."""
        files = [("files", (str(i), image)) for i, image in enumerate(batch) if isinstance(image, bytes)]
        return {"params": self.query, "files": files, "data": self.fields}


class _Try:
    """One call with its deadline: what to send now, and how long to wait before the next try."""

    def __init__(self, timeout: float) -> None:
        self._end = time.monotonic() + timeout
        self._tries = 0

    @property
    def left(self) -> float:
        return max(0.001, self._end - time.monotonic())

    def pause_after(self, failure: ServiceFailure, retry_after: str | None) -> float:
        """Seconds to wait; raises the failure when another try is no use or would come too late."""
        self._tries += 1
        lost_behind_a_proxy = failure.status == 500 and failure.code == "unexpected"
        if failure.status not in _RETRIED and failure.code != "unreachable" and not lost_behind_a_proxy:
            raise failure
        if retry_after is not None and retry_after.isdecimal():
            pause = float(retry_after)
        else:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._tries - 1))
        pause *= 1.0 + random.random() / 4.0  # clients that were refused together should not come back together
        if time.monotonic() + pause >= self._end:
            raise failure
        return pause


class _Settings:
    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        self.timeout = timeout
        self.options: dict[str, Any] = {
            "base_url": url,
            "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        }

    @staticmethod
    def sending(attempt: _Try) -> dict[str, Any]:
        return {"timeout": attempt.left, "headers": {"X-Request-Timeout": f"{attempt.left:.3f}"}}


class Client:
    """Calls the service and waits. Use it from any number of threads; ``timeout`` is per call, retries included."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._settings = _Settings(url, api_key, timeout)
        self._http = httpx2.Client(transport=transport, **self._settings.options)

    def read(self, image: ImageSource, **options: Unpack[Options]) -> Result:
        """The text of one image. Raises ``ServiceFailure``."""
        return _result(self._post("/v1/recognize", _Request(options).single(_bytes_of(image))))

    def read_many(
        self, images: Iterable[ImageSource], *, concurrency: int = 4, **options: Unpack[Options]
    ) -> Iterator[Result | ServiceFailure]:
        """One outcome per image, in order; the failure of one never ends the others.

        At most ``concurrency`` requests are under way, and no more images are taken from ``images`` than fill them.
        """
        request = _Request(options)
        window: deque[Future[list[Result | ServiceFailure]]] = deque()
        with ThreadPoolExecutor(concurrency) as pool:
            try:
                for batch in _batches(images):
                    if len(window) == concurrency:
                        yield from window.popleft().result()
                    window.append(pool.submit(self._read_batch, batch, request))
                while window:
                    yield from window.popleft().result()
            finally:
                for future in window:
                    future.cancel()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_batch(self, batch: list[bytes | ServiceFailure], request: _Request) -> list[Result | ServiceFailure]:
        if not any(isinstance(image, bytes) for image in batch):
            return _merge(batch, {"results": []})
        try:
            return _merge(batch, self._post("/v1/recognize/batch", request.several(batch)))
        except ServiceFailure as failure:
            return _all_failed(batch, failure)

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        attempt = _Try(self._settings.timeout)
        while True:
            retry_after = None
            try:
                response = self._http.post(path, **body, **self._settings.sending(attempt))
                retry_after = response.headers.get("retry-after")
                return _answer(response)
            except httpx2.TransportError as error:
                pause = attempt.pause_after(_unreachable(error), None)
            except ServiceFailure as failure:
                pause = attempt.pause_after(failure, retry_after)
            time.sleep(pause)


class AsyncClient:
    """The same for asyncio."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = _Settings(url, api_key, timeout)
        self._http = httpx2.AsyncClient(transport=transport, **self._settings.options)

    async def read(self, image: ImageSource, **options: Unpack[Options]) -> Result:
        """The text of one image. Raises ``ServiceFailure``."""
        return _result(await self._post("/v1/recognize", _Request(options).single(_bytes_of(image))))

    async def read_many(
        self, images: Iterable[ImageSource], *, concurrency: int = 4, **options: Unpack[Options]
    ) -> AsyncIterator[Result | ServiceFailure]:
        """One outcome per image, in order; see ``Client.read_many``."""
        request = _Request(options)
        window: deque[asyncio.Task[list[Result | ServiceFailure]]] = deque()
        try:
            for batch in _batches(images):
                if len(window) == concurrency:
                    for outcome in await window.popleft():
                        yield outcome
                window.append(asyncio.create_task(self._read_batch(batch, request)))
            while window:
                for outcome in await window.popleft():
                    yield outcome
        finally:
            for task in window:
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _read_batch(
        self, batch: list[bytes | ServiceFailure], request: _Request
    ) -> list[Result | ServiceFailure]:
        if not any(isinstance(image, bytes) for image in batch):
            return _merge(batch, {"results": []})
        try:
            return _merge(batch, await self._post("/v1/recognize/batch", request.several(batch)))
        except ServiceFailure as failure:
            return _all_failed(batch, failure)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        attempt = _Try(self._settings.timeout)
        while True:
            retry_after = None
            try:
                response = await self._http.post(path, **body, **self._settings.sending(attempt))
                retry_after = response.headers.get("retry-after")
                return _answer(response)
            except httpx2.TransportError as error:
                pause = attempt.pause_after(_unreachable(error), None)
            except ServiceFailure as failure:
                pause = attempt.pause_after(failure, retry_after)
            await asyncio.sleep(pause)


def _bytes_of(image: ImageSource) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise ServiceFailure(0, "unreadable_file", f"{image}: {error.strerror}") from error


def _batches(images: Iterable[ImageSource]) -> Iterator[list[bytes | ServiceFailure]]:
    """Images read from disk as they are needed, in portions for one request each."""
    batch: list[bytes | ServiceFailure] = []
    size = 0
    for image in images:
        content: bytes | ServiceFailure
        try:
            content = _bytes_of(image)
        except ServiceFailure as failure:
            content = failure
        length = len(content) if isinstance(content, bytes) else 0
        if batch and (len(batch) == BATCH_IMAGES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(content)
        size += length
    if batch:
        yield batch


def _merge(batch: list[bytes | ServiceFailure], answer: Mapping[str, Any]) -> list[Result | ServiceFailure]:
    """The outcomes of what was sent, with the files that could not even be read in their places."""
    results = iter(answer["results"])
    return [image if isinstance(image, ServiceFailure) else _outcome(next(results)) for image in batch]


def _all_failed(batch: list[bytes | ServiceFailure], failure: ServiceFailure) -> list[Result | ServiceFailure]:
    return [image if isinstance(image, ServiceFailure) else failure for image in batch]


def _answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON of a good answer. Raises ``ServiceFailure``."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.status_code == 200 and isinstance(body, dict):
        return body
    raise _failure(body if isinstance(body, dict) else {}, response.status_code)


def _failure(problem: Mapping[str, Any], status: int) -> ServiceFailure:
    return ServiceFailure(
        status,
        str(problem.get("code", "unexpected")),
        str(problem.get("detail", f"an answer of status {status} that is none of the service's")),
        str(problem.get("request_id", "")),
    )


def _unreachable(error: httpx2.TransportError) -> ServiceFailure:
    return ServiceFailure(0, "unreachable", str(error) or type(error).__name__)


def _outcome(item: Mapping[str, Any]) -> Result | ServiceFailure:
    if item["status"] == "ok":
        return _result(item)
    return _failure(item["error"], int(item["error"]["status"]))


def _result(body: Mapping[str, Any]) -> Result:
    image = body["image"]
    return Result(
        text=body["text"],
        confidence=body["confidence"],
        confidence_min=body["confidence_min"],
        width=image["width"],
        height=image["height"],
        orientation_applied=image["orientation_applied"],
        warnings=tuple(body["warnings"]),
        characters=_characters(body),
        alternatives=_alternatives(body),
        mode=body.get("mode", "page" if "page" in body else "line"),
        pages=tuple(_result(page) for page in body.get("pages", ())),
        lines=tuple(
            Line(
                text=line["text"],
                confidence=line["confidence"],
                confidence_min=line["confidence_min"],
                polygon=tuple((x, y) for x, y in line["polygon"]),
                row=line["row"],
                characters=_characters(line),
                alternatives=_alternatives(line),
            )
            for line in body.get("lines", ())
        ),
    )


def _characters(body: Mapping[str, Any]) -> tuple[Character, ...]:
    return tuple(
        Character(one["text"], one["confidence"], tuple((x, y) for x, y in one["polygon"]))
        for one in body.get("chars", ())
    )


def _alternatives(body: Mapping[str, Any]) -> tuple[Alternative, ...]:
    return tuple(Alternative(one["text"], one["confidence"]) for one in body.get("alternatives", ()))

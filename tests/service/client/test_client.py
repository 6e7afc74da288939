"""The client against the service, and against scripted faulty responses."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from linewise.service.app import create_app
from linewise.service.client import BATCH_BYTES, BATCH_IMAGES, AsyncClient, Client, Result, ServiceFailure
from linewise.service.settings import Settings

URL = "http://service"


def grey(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (60, 40), value).save(buffer, "PNG")
    return buffer.getvalue()


class Scripted:
    """Transport handler that replays answers, repeats the last one, and records the requests."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


GOOD = httpx2.Response(
    200,
    json={
        "text": "hello",
        "confidence": 0.9,
        "confidence_min": 0.8,
        "warnings": [],
        "image": {"width": 60, "height": 40, "format": "PNG", "orientation_applied": 0},
    },
)


def refusal(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {"status": status, "code": code, "detail": "words", "request_id": "id-1"}
    return httpx2.Response(status, json=body, headers={key.replace("_", "-"): value for key, value in headers.items()})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of the client instead of sleeping."""
    recorded: list[float] = []

    async def sleep(seconds: float) -> None:
        recorded.append(seconds)

    monkeypatch.setattr("linewise.service.client.sync_client.time.sleep", recorded.append)
    monkeypatch.setattr("linewise.service.client.async_client.asyncio.sleep", sleep)
    return recorded


def call(asynchronous: bool, script: Scripted, timeout: float = 60.0) -> Result:
    """Read an image with the blocking or the asyncio client."""
    transport = httpx2.MockTransport(script)
    if not asynchronous:
        with Client(URL, api_key="key", timeout=timeout, transport=transport) as client:
            return client.read(b"image")

    async def run() -> Result:
        async with AsyncClient(URL, api_key="key", timeout=timeout, transport=transport) as client:
            return await client.read(b"image")

    return asyncio.run(run())


both = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@both
def test_a_result_is_typed(asynchronous: bool, pauses: list[float]) -> None:
    script = Scripted(GOOD)
    assert call(asynchronous, script) == Result("hello", 0.9, 0.8, 60, 40, 0, (), ())
    (request,) = script.requests
    assert request.headers["authorization"] == "Bearer key"
    assert 0 < float(request.headers["x-request-timeout"]) <= 60
    assert pauses == []


@both
@pytest.mark.parametrize(
    "failure",
    [
        refusal(503, "queue_full", retry_after="3"),
        refusal(429, "rate_limited", retry_after="3"),
    ],
)
def test_a_rejection_is_retried_after_its_retry_after(
    asynchronous: bool, pauses: list[float], failure: httpx2.Response
) -> None:
    assert call(asynchronous, Scripted(failure, failure, GOOD)).text == "hello"
    assert len(pauses) == 2
    assert all(3.0 <= pause <= 3.75 for pause in pauses)


@both
@pytest.mark.parametrize("failure", [httpx2.ConnectError("refused"), httpx2.ReadError("reset")])
def test_a_lost_connection_is_retried_with_growing_pauses(
    asynchronous: bool, pauses: list[float], failure: Exception
) -> None:
    assert call(asynchronous, Scripted(failure, failure, failure, GOOD)).text == "hello"
    assert pauses[0] < pauses[1] < pauses[2]


@both
def test_a_replica_that_died_behind_a_proxy_is_retried_but_not_a_500_of_the_service(
    asynchronous: bool, pauses: list[float]
) -> None:
    assert call(asynchronous, Scripted(httpx2.Response(500, text="Internal Server Error"), GOOD)).text == "hello"
    script = Scripted(refusal(500, "internal"))
    with pytest.raises(ServiceFailure, match="internal"):
        call(asynchronous, script)
    assert len(script.requests) == 1


@both
def test_retries_end_with_the_deadline(asynchronous: bool, pauses: list[float]) -> None:
    with pytest.raises(ServiceFailure) as caught:
        call(asynchronous, Scripted(refusal(503, "queue_full", retry_after="30")), timeout=20)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (503, "queue_full", "id-1")
    assert pauses == []


@both
@pytest.mark.parametrize(("status", "code"), [(400, "bad_request"), (401, "unauthorized"), (422, "undecodable")])
def test_a_permanent_failure_is_raised_at_once(asynchronous: bool, pauses: list[float], status: int, code: str) -> None:
    script = Scripted(refusal(status, code))
    with pytest.raises(ServiceFailure, match=code):
        call(asynchronous, script)
    assert len(script.requests) == 1


@both
def test_a_response_from_another_program_is_a_failure(asynchronous: bool, pauses: list[float]) -> None:
    for answer in (httpx2.Response(404, text="<html>"), httpx2.Response(200, text="<html>")):
        with pytest.raises(ServiceFailure, match="unexpected"):
            call(asynchronous, Scripted(answer))


@pytest.fixture
def service(fake: Any) -> Callable[[], tuple[httpx2.AsyncBaseTransport, Any]]:
    def make(**settings: Any) -> tuple[httpx2.AsyncBaseTransport, Any]:
        app = create_app(Settings(**settings), fake)
        return httpx2.ASGITransport(app), app

    return make


def read_many(
    service: Callable[..., tuple[httpx2.AsyncBaseTransport, Any]], images: list[Any], **options: Any
) -> list[Result | ServiceFailure]:
    """Read images with the asyncio client from the application itself."""

    async def run() -> list[Result | ServiceFailure]:
        transport, app = service(max_in_flight=128)
        async with app.router.lifespan_context(app), AsyncClient(URL, transport=transport) as client:
            while not app.state.engine.ready:
                await asyncio.sleep(0.001)
            return [outcome async for outcome in client.read_many(images, **options)]

    return asyncio.run(run())


def test_many_images_come_back_in_order(service: Any) -> None:
    outcomes = read_many(service, [grey(1 + i % 250) for i in range(500)])
    assert [outcome.text for outcome in outcomes if isinstance(outcome, Result)] == [
        str(1 + i % 250) for i in range(500)
    ]


def test_bad_images_and_missing_files_keep_their_places(service: Any, tmp_path: Path) -> None:
    good = tmp_path / "a.png"
    good.write_bytes(grey(7))
    outcomes = read_many(service, [good, b"hello", str(tmp_path / "missing.png"), grey(8), b""])
    assert [outcome.text if isinstance(outcome, Result) else outcome.code for outcome in outcomes] == [
        "7",
        "unsupported_image",
        "unreadable_file",
        "8",
        "empty_file",
    ]


def test_files_that_are_all_missing_need_no_service(tmp_path: Path) -> None:
    with Client(URL, transport=httpx2.MockTransport(Scripted(AssertionError()))) as client:
        (outcome,) = client.read_many([tmp_path / "missing.png"])
    assert isinstance(outcome, ServiceFailure) and outcome.code == "unreadable_file"


def test_options_reach_the_service(service: Any) -> None:
    (result,) = read_many(service, [grey(123)], chars=True, orientation="90")
    assert isinstance(result, Result)
    assert [character.text for character in result.characters] == ["1", "2", "3"]
    assert result.characters[0].polygon == ((0.0, 0.0), (4.0, 0.0), (4.0, 60.0), (0.0, 60.0))
    assert [(word.text, word.confidence) for word in result.words] == [("123", 0.9)]
    assert (result.width, result.height, result.orientation_applied) == (40, 60, 90)
    (result,) = read_many(service, [grey(123)], words=True)
    assert isinstance(result, Result)
    assert result.words[0].polygon == ((0.0, 0.0), (14.0, 0.0), (14.0, 40.0), (0.0, 40.0)) and not result.characters


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_blocking_client_limits_its_requests_and_its_read_ahead(concurrency: int) -> None:
    lock = threading.Lock()
    concurrent, peak, consumed = 0, 0, 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal concurrent, peak
        with lock:
            concurrent += 1
            peak = max(peak, concurrent)
        count = request.read().count(b'name="files"')
        with lock:
            concurrent -= 1
        item = GOOD.json() | {"status": "ok"}
        return httpx2.Response(200, json={"results": [item] * count})

    def images() -> Iterator[bytes]:
        nonlocal consumed
        for _ in range(1000):
            consumed += 1
            yield b"x"

    with Client(URL, transport=httpx2.MockTransport(answer)) as client:
        outcomes = client.read_many(images(), concurrency=concurrency)
        next(outcomes)
        assert consumed <= (concurrency + 1) * BATCH_IMAGES + 1
        assert sum(1 for _ in outcomes) == 999
    assert peak <= concurrency


def test_large_images_are_sent_in_smaller_batches() -> None:
    sizes: list[int] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sizes.append(len(request.read()))
        return httpx2.Response(200, json={"results": [GOOD.json() | {"status": "ok"}]})

    image = bytes(BATCH_BYTES - 10)
    with Client(URL, transport=httpx2.MockTransport(answer)) as client:
        assert len(list(client.read_many([image] * 3, concurrency=1))) == 3
    assert len(sizes) == 3


def test_a_failed_request_fails_its_images_and_not_the_rest(pauses: list[float]) -> None:
    answers = iter([refusal(401, "unauthorized"), None])

    def answer(request: httpx2.Request) -> httpx2.Response:
        count = request.read().count(b'name="files"')
        return next(answers) or httpx2.Response(200, json={"results": [GOOD.json() | {"status": "ok"}] * count})

    with Client(URL, transport=httpx2.MockTransport(answer)) as client:
        outcomes = list(client.read_many([b"x"] * 40, concurrency=1))
    assert [isinstance(outcome, Result) for outcome in outcomes] == [False] * 32 + [True] * 8


@both
def test_a_lexicon_is_a_form_field_beside_the_image(asynchronous: bool, fake: Any) -> None:
    options: Any = {"lexicon": ["one", "two words"], "alternatives": 2, "charset": "&=+ one", "charset_exclude": "x"}

    async def run() -> None:
        app = create_app(Settings(), fake)
        async with app.router.lifespan_context(app), AsyncClient(URL, transport=httpx2.ASGITransport(app)) as client:
            while not app.state.engine.ready:
                await asyncio.sleep(0.001)
            assert (await client.read(grey(7), **options)).alternatives == ()
            outcomes = [outcome async for outcome in client.read_many([grey(8), grey(9)], **options)]
            assert [outcome.text for outcome in outcomes if isinstance(outcome, Result)] == ["8", "9"]

    if asynchronous:
        asyncio.run(run())
        assert fake.asked == [(2, "&=+ one", "x", ("one", "two words"))] * 3
        return
    script = Scripted(GOOD)
    with Client(URL, transport=httpx2.MockTransport(script)) as client:
        client.read(b"image", **options)
    (request,) = script.requests
    assert request.url.params == httpx2.QueryParams(alternatives="2", charset="&=+ one", charset_exclude="x")
    assert b"one\ntwo words" in request.content and b"image" in request.content


def test_an_unknown_option_raises_before_sending() -> None:
    options: Any = {"language": "en"}
    with (
        Client(URL, transport=httpx2.MockTransport(Scripted(GOOD))) as client,
        pytest.raises(TypeError, match="language"),
    ):
        client.read(b"image", **options)


def test_the_client_does_not_import_torch() -> None:
    program = "import sys, linewise; linewise.Client, linewise.AsyncClient; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)

"""``POST /recognize/batch``: every image gets its own outcome, and the request is admitted whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linewise.service.api import uploads
from linewise.service.middleware.body_limits import BodyLimitMiddleware
from tests.service.documents.test_image import png_with_header

NDJSON = {"accept": "application/x-ndjson"}


def grey(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (60, 40), value).save(buffer, "PNG")
    return buffer.getvalue()


def as_files(*values: int) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{value}.png", grey(value))) for value in values]


def as_json(*images: tuple[str | None, bytes]) -> dict[str, Any]:
    return {
        "images": [
            {"image": base64.b64encode(data).decode()} | ({"id": name} if name is not None else {})
            for name, data in images
        ]
    }


def lines(response: Any) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize("path", ["/recognize/batch", "/v1/recognize/batch"])
def test_files_are_answered_in_their_order_with_their_names(client: TestClient, path: str) -> None:
    response = client.post(path, files=as_files(30, 10, 20))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [(one["index"], one["id"], one["status"], one["text"]) for one in results] == [
        (0, "30.png", "ok", "30"),
        (1, "10.png", "ok", "10"),
        (2, "20.png", "ok", "20"),
    ]
    summary = response.json()["summary"]
    assert summary.pop("total_ms") > 0
    assert summary == {
        "request_id": response.headers["x-request-id"],
        "model": {"id": "fake", "revision": "sha256:00"},
        "total": 3,
        "ok": 3,
        "error": 0,
    }


def test_json_images_are_answered_with_their_ids(client: TestClient) -> None:
    results = client.post("/recognize/batch", json=as_json(("b", grey(2)), (None, grey(1)))).json()["results"]
    assert [(one.get("id"), one["text"]) for one in results] == [("b", "2"), (None, "1")]


def test_a_result_has_the_fields_of_a_single_answer(client: TestClient) -> None:
    single = client.post("/recognize", content=grey(9)).json()
    (result,) = client.post("/recognize/batch", files=as_files(9)).json()["results"]
    for name in ("text", "confidence", "confidence_min", "image", "warnings"):
        assert result[name] == single[name]


def test_a_bad_image_gets_its_problem_and_the_others_their_text(client: TestClient) -> None:
    images = [("a", grey(1)), ("b", b"hello"), ("c", b""), ("d", grey(2)[:50]), ("e", grey(3))]
    body = client.post("/recognize/batch", json=as_json(*images)).json()
    assert [one["status"] for one in body["results"]] == ["ok", "error", "error", "error", "ok"]
    assert [one["text"] for one in body["results"] if one["status"] == "ok"] == ["1", "3"]
    errors = [one["error"] for one in body["results"] if one["status"] == "error"]
    assert [(error["status"], error["code"]) for error in errors] == [
        (415, "unsupported_image"),
        (400, "empty_file"),
        (422, "undecodable"),
    ]
    assert (body["summary"]["ok"], body["summary"]["error"]) == (2, 3)


def test_broken_base64_of_one_image_is_its_own_problem(client: TestClient) -> None:
    body = as_json(("a", grey(1)))
    body["images"].append({"id": "b", "image": "!!"})
    results = client.post("/recognize/batch", json=body).json()["results"]
    assert (results[0]["text"], results[1]["error"]["code"]) == ("1", "bad_request")


def test_a_bug_on_one_image_is_its_own_problem_and_tells_nothing(client: TestClient, fake: Any) -> None:
    reading = fake.reading

    def poisoned(image: Any) -> Any:
        if image[0, 0] == 2:
            raise RuntimeError("secret")
        return reading(image)

    fake.reading = poisoned
    response = client.post("/recognize/batch", files=as_files(1, 2, 3))
    assert [one.get("text") for one in response.json()["results"]] == ["1", None, "3"]
    assert response.json()["results"][1]["error"]["code"] == "internal"
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"json": {"images": []}}, 400, "bad_request"),
        ({"json": {}}, 400, "bad_request"),
        ({"json": {"images": [{"id": "a"}]}}, 400, "bad_request"),
        ({"json": {"images": [{"image": "AAAA", "path": "/etc/passwd"}]}}, 400, "bad_request"),
        ({"json": {"images": ["AAAA"]}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"content-type": "image/png"}}, 400, "bad_request"),
        ({"files": {"file": grey(1)}}, 400, "bad_request"),
        ({"files": as_files(*range(1, 6))}, 413, "too_many_files"),
        ({"json": as_json(*[("a", grey(1))] * 5)}, 413, "too_many_files"),
        ({"files": {"files": bytes(30_000)}}, 413, "body_too_large"),
        ({"files": as_files(1), "params": {"detail": "all"}}, 422, "invalid_option"),
    ],
)
def test_a_request_that_is_wrong_as_a_whole_is_refused(
    make_client: Callable[..., TestClient], sent: dict[str, Any], status: int, code: str
) -> None:
    client = make_client(max_batch_files=4, max_batch_body_bytes=20_000)
    response = client.post("/recognize/batch", **sent)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


def test_the_limits_are_told(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_batch_files=2, max_batch_body_bytes=20_000)
    assert "2 images" in client.post("/recognize/batch", files=as_files(1, 2, 3)).json()["detail"]
    assert "20000 bytes" in client.post("/recognize/batch", content=bytes(20_001)).json()["detail"]


@pytest.mark.parametrize("form", ["files", "json"])
def test_the_pixels_of_all_images_together_are_bounded(make_client: Callable[..., TestClient], form: str) -> None:
    client = make_client(max_batch_pixels=2 * 60 * 40)

    def send(count: int) -> Any:
        sent = {"files": as_files(*[1] * count)} if form == "files" else {"json": as_json(*[("a", grey(1))] * count)}
        return client.post("/recognize/batch", **sent)

    assert send(2).status_code == 200
    response = send(3)
    assert (response.status_code, response.json()["code"]) == (422, "image_too_large")
    assert "4800 pixels" in response.json()["detail"]


@pytest.mark.parametrize("form", ["files", "json"])
def test_images_that_are_too_large_are_their_own_problem(make_client: Callable[..., TestClient], form: str) -> None:
    client = make_client(max_pixels=60 * 40, max_batch_pixels=2 * 60 * 40)
    pictures = [png_with_header(60, 41), grey(7), png_with_header(60, 41)]
    files = [("files", (f"{number}.png", data)) for number, data in enumerate(pictures)]
    sent = {"files": files} if form == "files" else {"json": as_json(*[("a", data) for data in pictures])}
    response = client.post("/recognize/batch", **sent)
    assert response.status_code == 200
    errors = [result.get("error", {}).get("code") for result in response.json()["results"]]
    assert errors == ["image_too_large", None, "image_too_large"]


def test_a_batch_that_does_not_fit_is_refused_whole(
    make_client: Callable[..., TestClient], fake: Any, picture: bytes
) -> None:
    client = make_client(max_in_flight=4, max_batch_files=4)
    fake.gate.clear()
    worker = threading.Thread(target=lambda: client.post("/recognize", content=picture))
    worker.start()
    while not fake.threads:
        pass
    response = client.post("/recognize/batch", files=as_files(1, 2, 3, 4))
    assert (response.status_code, response.json()["code"]) == (503, "queue_full")
    assert int(response.headers["retry-after"]) >= 1
    fake.gate.set()
    worker.join()
    assert len(fake.seen) == 1
    assert client.post("/recognize/batch", files=as_files(1, 2, 3, 4)).status_code == 200


def test_a_stream_has_every_outcome_and_the_summary_last(client: TestClient) -> None:
    images = [("a", grey(1)), ("b", b"hello"), ("c", grey(3))]
    got = lines(client.post("/recognize/batch", json=as_json(*images), headers=NDJSON))
    assert got[-1]["summary"]["total"] == 3
    assert (got[-1]["summary"]["ok"], got[-1]["summary"]["error"]) == (2, 1)
    outcomes = {one["id"]: one.get("text") or one["error"]["code"] for one in got[:-1]}
    assert outcomes == {"a": "1", "b": "unsupported_image", "c": "3"}


def test_a_stream_sends_what_is_done_while_the_rest_is_read(client: TestClient, fake: Any) -> None:
    fake.gate.clear()
    images = [("a", grey(1)), ("b", b"hello")]
    got: list[dict[str, Any]] = []

    # the in-process client delivers the whole body at once, so the order of the lines is what shows it
    worker = threading.Thread(
        target=lambda: got.extend(lines(client.post("/recognize/batch", json=as_json(*images), headers=NDJSON)))
    )
    worker.start()
    while not fake.threads:
        pass
    fake.gate.set()
    worker.join()
    assert [one.get("id") for one in got] == ["b", "a", None]


def test_equal_images_get_equal_answers_alone_and_in_any_batch(client: TestClient) -> None:
    alone = client.post("/recognize", content=grey(5)).json()
    for count in (1, 3, 40):
        results = client.post("/recognize/batch", files=as_files(*[5] * count)).json()["results"]
        assert {(one["text"], one["confidence"]) for one in results} == {(alone["text"], alone["confidence"])}


def streaming(app: Any, send: Callable[[Any], Any]) -> asyncio.Task[None]:
    """A request for a stream of two images, begun, whose answer goes to ``send``."""
    messages = [{"type": "http.request", "body": json.dumps(as_json(("a", grey(1)), ("b", grey(2)))).encode()}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    headers = [(b"content-type", b"application/json"), (b"accept", b"application/x-ndjson")]
    path = "/recognize/batch"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    return asyncio.create_task(app({**scope, "headers": headers, "asgi": {"version": "3.0"}}, receive, send))


def test_a_stream_that_nobody_takes_does_not_keep_its_room(make_client: Callable[..., TestClient]) -> None:
    """An ASGI server waits in ``send`` while the client's window is shut."""
    app: Any = make_client().app

    async def scenario() -> tuple[int, int, int]:
        shut = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                shut.set()
                await asyncio.Event().wait()

        request = streaming(app, send)
        await shut.wait()
        while app.state.engine.load[0]:
            await asyncio.sleep(0.001)
        bodies = app.middleware_stack
        while not isinstance(bodies, BodyLimitMiddleware):
            bodies = bodies.app
        load = (*app.state.engine.load[:2], bodies.bytes_in_flight)
        request.cancel()
        await asyncio.wait([request])
        return load

    assert asyncio.run(scenario()) == (0, 0, 0)


def test_an_image_in_base64_is_held_once() -> None:
    tracemalloc.start()
    try:
        image = uploads._base64_image(None, base64.b64encode(bytes(3_000_000)).decode())
        assert len(image.read_bytes()) == len(image.read_bytes()) == 3_000_000
        assert tracemalloc.get_traced_memory()[0] < 3_500_000
    finally:
        tracemalloc.stop()


def test_a_stream_whose_client_left_before_its_beginning_does_not_keep_its_room(
    make_client: Callable[..., TestClient],
) -> None:
    app: Any = make_client().app
    admitted = []

    async def scenario() -> None:
        async def send(message: Any) -> None:
            admitted.append(app.state.engine.load[0])
            raise OSError("the client is gone")

        await asyncio.wait([streaming(app, send)])

    asyncio.run(scenario())
    assert admitted[0] == 2 and app.state.engine.load[:2] == (0, 0)

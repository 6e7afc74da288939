"""``mode=page`` and ``mode=auto``: pages, whose lines are batched with those of other requests."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linewise.model import Reading
from linewise.service.app import create_app
from linewise.service.settings import Settings
from tests.service.conftest import draw_line, encode

GREYS = (20, 60, 100)


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def page(greys: Sequence[int] = GREYS, width: int = 120) -> bytes:
    """A white page with a bar of each grey, 10 rows high and 30 apart; the fake reader reads the grey."""
    pixels = np.full((30 * len(greys) + 20, width), 255, np.uint8)
    for number, grey in enumerate(greys):
        pixels[20 + 30 * number : 30 + 30 * number] = grey
    return png(pixels)


def doubtful_from(height: int) -> Callable[[Any], Reading]:
    """The brightness of an image as its text, with little confidence from a height in pixels."""

    def reading(image: Any) -> Reading:
        confidence = 0.3 if image.shape[0] >= height else 0.75
        return Reading(f"{image.mean():.0f}", confidence, confidence, ())

    return reading


def post(client: TestClient, data: bytes, **options: Any) -> Any:
    return client.post("/recognize", content=data, params=options, headers={"content-type": "image/png"})


def test_a_page_answers_with_its_lines(client: TestClient) -> None:
    response = post(client, page(), mode="page")
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["mode"] == "page"
    assert body["text"] == "20\n60\n100"
    assert [line["text"] for line in body["lines"]] == ["20", "60", "100"]
    assert body["lines"][1] == {
        "text": "60", "confidence": 0.75, "confidence_min": 0.5, "row": 1,
        "polygon": [[0, 50], [120, 50], [120, 60], [0, 60]],
    }  # fmt: skip
    assert (body["confidence"], body["confidence_min"], body["warnings"]) == (0.75, 0.5, [])
    assert (body["image"]["width"], body["image"]["height"]) == (120, 110)
    assert "inference" in response.headers["server-timing"]


def test_a_line_is_answered_as_ever(client: TestClient) -> None:
    assert not {"mode", "lines"} & post(client, page(), mode="line").json().keys()


@pytest.mark.parametrize("mode", [{}, {"mode": "auto"}])
def test_auto_is_the_default_and_says_what_it_took_the_image_for(
    client: TestClient, fake: Any, mode: dict[str, str]
) -> None:
    fake.reading = doubtful_from(60)
    answer = post(client, page(), **mode).json()
    assert (answer["mode"], answer["text"]) == ("page", "20\n60\n100")
    single = post(client, page((80,)), **mode).json()
    assert single["mode"] == "line"
    assert single["text"] == post(client, page((80,)), mode="line").json()["text"]


def test_a_sure_line_is_read_once(client: TestClient, fake: Any) -> None:
    assert post(client, encode(draw_line())).json()["mode"] == "line"
    assert len(fake.seen) == 1


def test_a_reading_of_several_lines_as_one_is_not_sure(client: TestClient, fake: Any) -> None:
    assert post(client, page()).json()["text"] == "20\n60\n100"  # each line as confident as the whole


def test_auto_keeps_the_line_where_the_page_is_less_likely(client: TestClient, fake: Any) -> None:
    def reading(image: Any) -> Reading:
        return Reading("the whole", 0.5, 0.5, ()) if image.shape[0] >= 40 else Reading("scrap", 0.2, 0.2, ())

    fake.reading = reading
    answer = post(client, page((80,))).json()
    assert (answer["mode"], answer["text"], answer["confidence"]) == ("line", "the whole", 0.5)


def test_auto_reads_a_large_picture_as_a_page_at_full_size(client: TestClient, fake: Any) -> None:
    large = np.kron(np.asarray(Image.open(io.BytesIO(page(width=200)))), np.ones((8, 8), np.uint8))
    fake.reading = doubtful_from(200)
    body = post(client, png(large)).json()
    assert [line["text"] for line in body["lines"]] == ["20", "60", "100"]
    assert body["lines"][1]["polygon"] == [[0, 400], [1600, 400], [1600, 480], [0, 480]]


def test_auto_finds_no_text_in_an_image_without_any(client: TestClient, fake: Any) -> None:
    fake.reading = lambda image: Reading("|", 0.04, 0.04, ())
    body = post(client, png(np.full((50, 50), 250, np.uint8))).json()
    assert (body["text"], body["lines"], body["warnings"]) == ("", [], ["no_text"])


def test_without_a_page_finder_auto_reads_lines(fake: Any) -> None:
    fake.reading = doubtful_from(0)
    with TestClient(create_app(Settings(threads=1), fake)) as lines_only:
        while lines_only.get("/healthz/ready").status_code != 200:
            time.sleep(0.002)
        assert post(lines_only, page()).json()["mode"] == "line"


def test_a_page_without_lines_is_told_apart_from_a_failure(client: TestClient) -> None:
    body = post(client, png(np.full((50, 50), 255, np.uint8)), mode="page").json()
    assert (body["text"], body["lines"], body["warnings"]) == ("", [], ["no_text"])


def test_the_options_hold_for_each_line(client: TestClient) -> None:
    body = post(client, page(), mode="page", detail="chars").json()
    letters = body["lines"][2]["chars"]
    assert [letter["text"] for letter in letters] == ["1", "0", "0"]
    for letter in letters:
        assert all(0 <= x <= 120 and 80 <= y <= 90 for x, y in letter["polygon"])
    withheld = post(client, page(), mode="page", min_confidence=0.9).json()
    assert withheld["text"] == "" and withheld["warnings"] == ["low_confidence"]
    assert [line["text"] for line in withheld["lines"]] == ["", "", ""]


def test_a_page_is_turned_before_its_lines_are_looked_for(client: TestClient) -> None:
    upside_down = png(np.asarray(Image.open(io.BytesIO(page())))[::-1, ::-1].copy())
    body = post(client, upside_down, mode="page", orientation="180").json()
    assert body["text"] == "20\n60\n100"
    assert body["image"]["orientation_applied"] == 180


def test_a_batch_may_hold_pages(client: TestClient) -> None:
    files = [("files", ("a.png", page(), "image/png")), ("files", ("b.png", b"rubbish", "image/png"))]
    body = client.post("/recognize/batch", params={"mode": "page"}, files=files).json()
    first, second = body["results"]
    assert [line["text"] for line in first["lines"]] == ["20", "60", "100"]
    assert second["error"]["code"] == "unsupported_image"


def test_another_mode_is_refused_and_so_are_pages_where_nothing_finds_lines(client: TestClient, fake: Any) -> None:
    wrong = post(client, page(), mode="book")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_option")
    with TestClient(create_app(Settings(threads=1), fake)) as lines_only:
        while lines_only.get("/healthz/ready").status_code != 200:
            time.sleep(0.002)
        refused = post(lines_only, page(), mode="page")
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")
        assert "single lines" in refused.json()["detail"]


def test_a_page_with_more_lines_than_the_queue_holds_is_read_in_parts(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_in_flight=80)
    greys = [index % 190 for index in range(1, 151)]
    body = post(client, page(greys), mode="page").json()
    assert [line["text"] for line in body["lines"]] == [str(grey) for grey in greys]
    assert client.get("/healthz/ready").status_code == 200


def test_a_page_leaves_nothing_behind_when_its_time_is_up(make_client: Callable[..., TestClient], fake: Any) -> None:
    client = make_client()
    fake.gate.clear()
    late = client.post("/recognize", content=page(), params={"mode": "page"}, headers={"x-request-timeout": "0.2"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    fake.gate.set()
    deadline = time.monotonic() + 10
    while "linewise_in_flight 0.0" not in client.get("/metrics").text:
        assert time.monotonic() < deadline, client.get("/metrics").text
        time.sleep(0.01)


def test_single_lines_get_their_turn_while_a_page_is_read(make_client: Callable[..., TestClient], fake: Any) -> None:
    client = make_client(batch_items=4)
    order: list[str] = []

    def ask(name: str, data: bytes, **options: Any) -> None:
        assert post(client, data, **options).status_code == 200
        order.append(name)

    fake.gate.clear()
    asking = threading.Thread(
        target=ask, args=("page", page([index % 190 for index in range(1, 200)])), kwargs={"mode": "page"}
    )
    asking.start()
    while not fake.threads:
        time.sleep(0.002)
    single = threading.Thread(target=ask, args=("line", page((80,))), kwargs={"mode": "line"})
    single.start()
    time.sleep(0.1)
    fake.gate.set()
    single.join(30)
    asking.join(30)
    assert order == ["line", "page"]


def test_pages_are_in_the_openapi_document(client: TestClient) -> None:
    document = json.dumps(client.get("/openapi.json").json())
    assert "mode=page" in document and "LineInfo" in document

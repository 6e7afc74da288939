"""``/web/preview``: pictures of pages, upright, for the demo page."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from fpdf import FPDF
from PIL import Image

from tests.service.conftest import FakeReader, encode

SIZE = (120, 40)


def corner(size: tuple[int, int] = SIZE) -> Image.Image:
    """A white picture whose top left corner is black."""
    picture = Image.new("RGB", size, "white")
    picture.paste("black", (0, 0, 20, 20))
    return picture


def preview(client: TestClient, data: bytes, **query: Any) -> Image.Image:
    response = client.post("/web/preview", files={"file": data}, params=query)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg"), response.text
    return Image.open(io.BytesIO(response.content)).convert("L")


def is_black(picture: Image.Image, x: int, y: int) -> bool:
    value = picture.getpixel((x % picture.width, y % picture.height))
    assert isinstance(value, int)
    return value < 60


@pytest.mark.parametrize(
    ("rotation", "size", "at"), [(0, SIZE, (8, 8)), (90, SIZE[::-1], (-8, 8)), (180, SIZE, (-8, -8))]
)
def test_a_picture_is_rotated_clockwise(
    client: TestClient, rotation: int, size: tuple[int, int], at: tuple[int, int]
) -> None:
    picture = preview(client, encode(corner()), rotation=rotation)
    assert picture.size == size
    assert is_black(picture, *at)


def test_the_rotation_includes_that_of_the_metadata(client: TestClient) -> None:
    metadata = Image.Exif()
    metadata[0x0112] = 6  # a viewer rotates the stored pixels by 90 degrees
    data = encode(corner(), "JPEG", exif=metadata, quality=95)
    assert client.post("/recognize", files={"file": data}).json()["image"]["orientation_applied"] == 90
    assert is_black(preview(client, data, rotation=90), -8, 8)
    assert is_black(preview(client, data, rotation=270), 8, -8)


def test_each_page_of_a_tiff_has_a_preview(client: TestClient) -> None:
    pages = [Image.new("L", SIZE, 255), Image.new("L", SIZE, 0)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert not is_black(preview(client, data, page=1), 8, 8)
    assert is_black(preview(client, data, page=2), 8, 8)


def test_a_page_of_a_pdf_has_a_preview(client: TestClient) -> None:
    document = FPDF(unit="pt", format=(72, 36))
    document.add_page()
    document.add_page()
    document.image(corner(), 0, 0, 72, 36)
    picture = preview(client, bytes(document.output()), page=2)
    assert picture.size == (200, 100)
    assert is_black(picture, 8, 8)


def test_a_large_picture_is_reduced(client: TestClient) -> None:
    assert preview(client, encode(corner((4000, 1000)))).size == (1600, 400)


@pytest.mark.parametrize(
    ("query", "data", "status", "code"),
    [
        ({"page": 2}, encode(corner()), 422, "invalid_option"),
        ({"page": 0}, encode(corner()), 422, "invalid_option"),
        ({"rotation": 45}, encode(corner()), 422, "invalid_option"),
        ({}, b"hello", 415, "unsupported_image"),
        ({}, encode(corner())[:60], 422, "undecodable"),
    ],
)
def test_bad_requests_are_problems(
    client: TestClient, query: dict[str, int], data: bytes, status: int, code: str
) -> None:
    response = client.post("/web/preview", files={"file": data}, params=query)
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_a_preview_needs_the_key_and_counts_as_an_image(make_client: Callable[..., TestClient]) -> None:
    key = "a-key-of-sixteen-characters"
    client = make_client(api_keys=key, rate_limit="1/hour")
    files = {"file": encode(corner())}
    assert client.post("/web/preview", files=files).status_code == 401
    statuses = [client.post("/web/preview", files=files, headers={"X-API-Key": key}).status_code for _ in range(2)]
    assert statuses == [200, 429]


def test_a_preview_is_refused_under_overload(make_client: Callable[..., TestClient], fake: FakeReader) -> None:
    client = make_client(max_in_flight=1, max_batch_files=1)
    fake.gate.clear()
    files = {"file": encode(corner())}
    reading = threading.Thread(target=client.post, args=("/recognize",), kwargs={"files": files})
    reading.start()
    try:
        while not fake.threads:
            pass
        assert client.post("/web/preview", files=files).json()["code"] == "queue_full"
    finally:
        fake.gate.set()
        reading.join()
    assert client.post("/web/preview", files=files).status_code == 200

"""Batches of the client: bounded in images, bytes and pixels, and halved when the service refuses them."""

from __future__ import annotations

import io
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from linewise.service.client import BATCH_PIXELS, Result, ServiceFailure
from linewise.service.client.image_size import count_pixels
from tests.service.client.test_faults import RESULT, both, read_many


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0" + bytes(300), "comment": b"words"}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(30)}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"big_endian": True}),
    ],
)
def test_pixels_are_counted_from_the_header(file_format: str, options: dict[str, Any]) -> None:
    data = encode(Image.new("RGB", (301, 47), 200), file_format, **options)
    assert count_pixels(data) == 301 * 47


def test_damaged_headers_count_as_nothing_or_a_number() -> None:
    random = np.random.default_rng(5)
    for file_format in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        data = encode(Image.new("L", (301, 47), 200), file_format)
        for end in range(len(data[:200])):
            assert count_pixels(data[:end]) >= 0
        for _ in range(200):
            broken = np.frombuffer(data, np.uint8).copy()
            broken[random.integers(2, min(len(broken), 60), 4)] = random.integers(0, 256, 4)
            assert count_pixels(broken.tobytes()) >= 0
    assert count_pixels(b"") == count_pixels(b"%PDF-1.7") == 0


class Service:
    """Transport handler that refuses batches of more than ``limit`` images."""

    def __init__(self, limit: int, status: int, code: str) -> None:
        self.limit, self.status, self.code = limit, status, code
        self.sizes: list[int] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        count = body.count(b'name="files"')
        self.sizes.append(count)
        if count > self.limit:
            return httpx2.Response(self.status, json={"code": self.code, "detail": "words"})
        names = [
            part.split(b"\r\n\r\n")[1].split(b"\r\n")[0].decode("latin-1") for part in body.split(b'name="files"')[1:]
        ]
        return httpx2.Response(200, json={"results": [RESULT | {"status": "ok", "text": name} for name in names]})


@both
@pytest.mark.parametrize(
    ("status", "code"), [(413, "body_too_large"), (413, "too_many_files"), (422, "image_too_large")]
)
def test_a_refused_batch_is_sent_in_halves(asynchronous: bool, status: int, code: str) -> None:
    service = Service(5, status, code)
    images: list[Any] = [f"image-{i}".encode() for i in range(20)]
    images[7] = "missing.png"
    outcomes = read_many(asynchronous, images, transport=httpx2.MockTransport(service))
    texts = [outcome.text if isinstance(outcome, Result) else outcome.code for outcome in outcomes]
    assert texts == [f"image-{i}" if i != 7 else "unreadable_file" for i in range(20)]
    assert service.sizes == [19, 9, 5, 4, 10, 5, 5]


@both
def test_an_image_that_is_refused_alone_fails_alone(asynchronous: bool) -> None:
    outcomes = read_many(asynchronous, [b"x"] * 4, transport=httpx2.MockTransport(Service(0, 413, "body_too_large")))
    assert [outcome.code for outcome in outcomes if isinstance(outcome, ServiceFailure)] == ["body_too_large"] * 4


@both
def test_other_failures_are_not_sent_again(asynchronous: bool) -> None:
    service = Service(0, 422, "invalid_option")
    outcomes = read_many(asynchronous, [b"x"] * 4, transport=httpx2.MockTransport(service))
    assert len(outcomes) == 4 and service.sizes == [4]


def test_batches_are_bounded_in_pixels() -> None:
    service = Service(99, 413, "")
    scan = encode(Image.new("1", (5000, BATCH_PIXELS // 5000 // 3)), "PNG")
    outcomes = read_many(False, [scan] * 8, transport=httpx2.MockTransport(service))
    assert (len(outcomes), service.sizes) == (8, [3, 3, 2])

"""``POST /recognize``: one image in, its text out, and every bad input answered as the contract says."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

PROBLEM = "application/problem+json"


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def bomb(side: int = 9000) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(side * (side + 1)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def assert_problem(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == PROBLEM
    document = response.json()
    assert document["status"] == status
    assert document["title"] and document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]


def text_of(client: TestClient, data: bytes) -> str:
    response = client.post("/recognize", content=data, headers={"content-type": "application/octet-stream"})
    assert response.status_code == 200, response.text
    return str(response.json()["text"])


GREY_77 = encode(Image.new("L", (100, 40), 77))


@pytest.mark.parametrize("path", ["/recognize", "/v1/recognize"])
@pytest.mark.parametrize(
    "request_of",
    [
        lambda data: {"files": {"file": ("a.png", data, "image/png")}},
        lambda data: {"files": {"file": ("../../etc/passwd", data, "text/html")}},
        lambda data: {"content": data, "headers": {"content-type": "image/png"}},
        lambda data: {"content": data, "headers": {"content-type": "application/octet-stream"}},
        lambda data: {"content": data},
        lambda data: {"json": {"image": base64.b64encode(data).decode()}},
        lambda data: {"json": {"image": base64.encodebytes(data).decode()}},
        lambda data: {"json": {"image": "data:image/png;base64," + base64.b64encode(data).decode()}},
        lambda data: {"json": {"image": "DATA:;base64," + base64.b64encode(data).decode()}},
    ],
    ids=["multipart", "odd-name", "raw-png", "raw-octets", "raw-untyped", "base64", "base64-lines", "data-uri", "DATA"],
)
def test_each_way_of_sending_an_image_gives_its_text(
    client: TestClient, path: str, request_of: Callable[[bytes], dict[str, Any]]
) -> None:
    response = client.post(path, **request_of(GREY_77))
    assert response.status_code == 200, response.text
    assert response.json()["text"] == "77"


def test_the_answer_has_the_fields_of_the_contract(client: TestClient) -> None:
    response = client.post("/recognize", files={"file": GREY_77})
    body = response.json()
    assert body.pop("request_id") == response.headers["x-request-id"]
    timing = body.pop("timing_ms")
    assert set(timing) == {"decode", "queue", "inference", "total"}
    assert all(value >= 0 for value in timing.values())
    assert body == {
        "model": {"id": "fake", "revision": "sha256:00"},
        "text": "77",
        "confidence": 0.75,
        "confidence_min": 0.5,
        "image": {"width": 100, "height": 40, "format": "PNG", "orientation_applied": 0},
        "mode": "line",
        "warnings": [],
    }


def test_no_text_is_an_answer_with_a_warning(client: TestClient) -> None:
    body = client.post("/recognize", content=encode(Image.new("L", (100, 40), 0))).json()
    assert (body["text"], body["warnings"]) == ("", ["no_text"])


def test_answers_are_not_cached_nor_sniffed(client: TestClient) -> None:
    headers = client.post("/recognize", content=GREY_77).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"content": b""}, 400, "empty_file"),
        ({"files": {"file": ("a.png", b"")}}, 400, "empty_file"),
        ({"json": {"image": ""}}, 400, "empty_file"),
        ({"json": {}}, 400, "bad_request"),
        ({"json": []}, 400, "bad_request"),
        ({"json": {"image": 5}}, 400, "bad_request"),
        ({"json": {"image": "AAAA", "url": "http://127.0.0.1/"}}, 422, "invalid_option"),
        ({"json": {"image": "not base64!"}}, 400, "bad_request"),
        ({"json": {"image": "AAA"}}, 400, "bad_request"),
        ({"json": {"image": "data:image/png,plain"}}, 400, "bad_request"),
        ({"json": {"image": "ŸŸŸŸ"}}, 400, "bad_request"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"content": b"", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"content": GREY_77, "headers": {"content-type": "text/plain"}}, 400, "bad_request"),
        ({"data": {"file": "text"}}, 400, "bad_request"),
        ({"files": {"picture": GREY_77}}, 400, "bad_request"),
        ({"files": [("file", GREY_77), ("file", GREY_77)]}, 400, "bad_request"),
        ({"files": [("file", GREY_77), ("other", GREY_77)]}, 400, "bad_request"),
        ({"files": [("file", GREY_77)] * 1000}, 400, "bad_request"),
        ({"data": {f"field{i}": "x" for i in range(1000)}, "files": {"file": GREY_77}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400, "bad_request"),
        ({"content": b"--b\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400, "bad_request"),
        ({"content": b"hello"}, 415, "unsupported_image"),
        ({"content": b"<svg/>", "headers": {"content-type": "image/png"}}, 415, "unsupported_image"),
        ({"files": {"file": ("a.png", b"GIF89a" + bytes(50), "image/png")}}, 415, "unsupported_image"),
        ({"content": GREY_77[:60]}, 422, "undecodable"),
        ({"content": GREY_77[:20] + bytes(60)}, 422, "undecodable"),
        ({"content": bomb()}, 422, "image_too_large"),
        ({"content": encode(Image.new("L", (1, 1)))}, 422, "image_too_small"),
        ({"content": encode(Image.new("L", (10_000, 3)))}, 422, "image_too_large"),
        ({"content": encode(Image.new("L", (65_000, 400)))}, 422, "image_too_large"),
        (
            {"content": encode(Image.new("L", (9, 9)), save_all=True, append_images=[Image.new("L", (9, 9), 9)])},
            422,
            "animated",
        ),
    ],
)
def test_bad_input_gets_its_status_and_code(client: TestClient, sent: dict[str, Any], status: int, code: str) -> None:
    assert_problem(client.post("/recognize", **sent), status, code)


def test_a_text_field_named_file_is_refused(client: TestClient) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhello\r\n--b--\r\n'
    response = client.post("/recognize", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert_problem(response, 400, "bad_request")


def test_a_multipart_body_without_its_end_is_refused_though_the_file_is_whole(client: TestClient) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + GREY_77 + b"\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    unfinished = part + b'--b\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nabc'
    assert_problem(client.post("/recognize", content=unfinished, headers=headers), 400, "bad_request")
    assert client.post("/recognize", content=part + b"--b--\r\n", headers=headers).status_code == 200


def test_a_mislabelled_image_is_read_for_what_it_is(client: TestClient) -> None:
    jpeg = encode(Image.new("L", (100, 40), 77), "JPEG")
    response = client.post("/recognize", files={"file": ("a.png", jpeg, "image/png")})
    assert (response.json()["text"], response.json()["image"]["format"]) == ("77", "JPEG")


def test_pictures_of_every_kind_give_the_right_text(client: TestClient) -> None:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    assert text_of(client, encode(Image.new("CMYK", (60, 40), (0, 0, 0, 255 - 77)), "TIFF")) == "77"
    palette = Image.new("P", (60, 40), 1)
    palette.putpalette([0, 0, 0, 99, 99, 99])
    assert text_of(client, encode(palette)) == "99"
    assert text_of(client, encode(Image.new("RGBA", (60, 40), (0, 0, 0, 128)), "PNG")) == "127"
    assert text_of(client, encode(Image.fromarray(np.array([[0, 65535]] * 9, np.uint16).repeat(9, 1)))) == "128"
    assert text_of(client, encode(Image.new("L", (60, 40), 77), "PNG", exif=rotated)) == "77"


def test_an_exif_rotated_photo_reports_its_upright_size(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = client.post("/recognize", content=encode(Image.new("L", (60, 40), 77), "JPEG", exif=exif)).json()
    assert body["image"] == {"width": 40, "height": 60, "format": "JPEG", "orientation_applied": 90}


def test_a_file_over_a_megabyte_stays_in_memory(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_: object, **__: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", no_disk)
    noise = np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)
    data = encode(Image.fromarray(noise))
    assert len(data) > 2**21
    assert client.post("/recognize", files={"file": data}).status_code == 200


def test_a_body_over_the_limit_is_refused(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_body_bytes=1000)
    assert_problem(client.post("/recognize", content=bytes(1001)), 413, "body_too_large")
    assert_problem(client.post("/recognize", files={"file": bytes(1000)}), 413, "body_too_large")
    assert_problem(client.post("/recognize", content=bytes(1000)), 415, "unsupported_image")
    assert "1000 bytes" in client.post("/recognize", content=bytes(1001)).json()["detail"]


def test_limits_of_pixels_and_sides_are_settings(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_pixels=3999)
    assert_problem(client.post("/recognize", content=GREY_77), 422, "image_too_large")


@pytest.mark.filterwarnings("ignore")  # Pillow warns about much of this
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_hostile_bytes_never_make_a_server_error(client: TestClient, file_format: str) -> None:
    random = np.random.default_rng(3)
    noise = Image.fromarray(random.integers(0, 256, (24, 48, 3), np.uint8))
    whole = np.frombuffer(encode(noise, file_format), np.uint8)
    for _ in range(60):
        broken = whole[: random.integers(1, len(whole) + 1)].copy()
        spots = random.integers(0, min(len(broken), 200), random.integers(1, 12))  # headers are where it hurts
        broken[spots] = random.integers(0, 256, len(spots))
        response = client.post("/recognize", content=broken.tobytes())
        assert response.status_code in (200, 415, 422), response.text
    assert text_of(client, GREY_77) == "77"

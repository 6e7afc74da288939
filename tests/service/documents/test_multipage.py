"""PDF and multi-page TIFF: page by page, within limits, and every broken one with a reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, TiffImagePlugin

from linewise.service.bulk.sources import document_length
from linewise.service.documents.image import ImageLimits, UprightImage, decode
from linewise.service.documents.multipage import decode_page, page_count
from linewise.service.errors import Animated, ImageTooLarge, Undecodable, UnsupportedImage
from tests.campaigns.documents import pdf_of, stream
from tests.service.inference.test_pipeline import post

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768, max_aspect=500)
GREYS = ((20, 60), (), (100, 140, 180))


def sheet(greys: tuple[int, ...]) -> Image.Image:
    """A white page with a dark bar for each grey."""
    pixels = np.full((240, 160), 255, np.uint8)
    for number, grey in enumerate(greys):
        pixels[20 + 60 * number : 50 + 60 * number] = grey
    return Image.fromarray(pixels)


def saved(file_format: str, pages: tuple[tuple[int, ...], ...] = GREYS) -> bytes:
    buffer = io.BytesIO()
    first, *others = (sheet(greys) for greys in pages)
    options: dict[str, Any] = {"resolution": 200.0, "quality": 95} if file_format == "PDF" else {}
    first.save(buffer, file_format, save_all=True, append_images=others, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PDF", "TIFF"])
def test_each_page_is_decoded_by_itself(file_format: str) -> None:
    data = saved(file_format)
    assert page_count(data, 50) == 3
    for number, greys in enumerate(GREYS):
        image = decode_page(data, number, LIMITS)
        assert image.format == file_format
        assert (image.width, image.height) == pytest.approx((160, 240), abs=1)  # PDF measures in points
        levels = [float(np.median(image.pixels[25 + 60 * i : 45 + 60 * i])) for i in range(len(greys))]
        assert levels == pytest.approx(greys, abs=6)


def filled_form() -> bytes:
    """A PDF of one empty page with a filled text field, in which a black box is drawn."""
    return pdf_of(
        b"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Annots[4 0 R]>>",
        b"<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/V(b)/Rect[18 18 54 54]/F 4/P 3 0 R/AP<</N 5 0 R>>>>",
        stream(b"/Type/XObject/Subtype/Form/BBox[0 0 36 36]", b"0 0 18 36 re f", packed=False),
    )


def test_the_values_of_a_form_are_drawn() -> None:
    pixels = decode_page(filled_form(), 0, LIMITS).pixels
    assert pixels.shape == (200, 200)
    assert pixels[60:140, 55:95].max() == 0 and pixels[60:140, 105:145].min() == 255  # the field has no colour


def test_a_picture_is_a_document_of_one_page() -> None:
    buffer = io.BytesIO()
    sheet((30,)).save(buffer, "PNG")
    assert page_count(buffer.getvalue(), 50) == 1
    assert decode_page(buffer.getvalue(), 0, LIMITS).format == "PNG"


def test_a_picture_that_speaks_of_pdf_is_a_picture() -> None:
    buffer = io.BytesIO()
    sheet((30,)).save(buffer, "JPEG", comment=b"made from %PDF-1.7")
    assert b"%PDF-" in buffer.getvalue()[:1024]
    assert decode_page(buffer.getvalue(), 0, LIMITS).format == "JPEG"


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_tiff_that_is_cut_short_is_refused_and_names_the_page(client: TestClient, share: float) -> None:
    data = saved("TIFF")
    with pytest.raises(Undecodable, match=r"page [23] is missing|image is corrupt or cut short"):
        read_all(data[: int(len(data) * share)])
    response = post(client, data[: int(len(data) * share)], mode="page")
    assert (response.status_code, response.json()["code"]) == (422, "undecodable")


def read_all(data: bytes) -> list[UprightImage]:
    return [decode_page(data, number, LIMITS) for number in range(page_count(data, 50))]


def with_subfile_types(*types: int) -> bytes:
    """A TIFF of pages of growing width, each with its subfile type."""
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer) as file:
        for number, kind in enumerate(types):
            Image.new("L", (30 + number, 40), 255).save(file, "TIFF", tiffinfo={254: kind})
            file.newFrame()
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("types", "widths"),
    [
        ((0, 1), [30]),
        ((1, 0), [31]),
        ((2, 1, 2, 1, 4, 5), [30, 32]),
        ((0, 0), [30, 31]),
        ((1,), [30]),
        ((1, 1), [30, 31]),
    ],
)
def test_thumbnails_and_masks_are_no_pages(types: tuple[int, ...], widths: list[int]) -> None:
    data = with_subfile_types(*types)
    assert [image.width for image in read_all(data)] == widths
    if len(widths) == 1:
        assert decode(data, LIMITS).width == widths[0]
    else:
        with pytest.raises(Animated):
            decode(data, LIMITS)


@pytest.mark.parametrize("file_format", ["PDF", "TIFF"])
def test_more_pages_than_the_limit_are_refused_and_none_is_dropped(file_format: str) -> None:
    with pytest.raises(ImageTooLarge, match="more than 2 pages"):
        page_count(saved(file_format), 2)


def test_the_length_of_a_document_is_known_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "three.pdf").write_bytes(saved("PDF"))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7")
    assert document_length(str(tmp_path / "three.pdf"), LIMITS) == 3
    assert document_length(str(tmp_path / "broken.pdf"), LIMITS) == 1
    assert document_length(str(tmp_path / "missing.pdf"), LIMITS) == 1


def test_broken_documents_are_refused_with_a_reason() -> None:
    data = saved("PDF")
    with pytest.raises(Undecodable, match="corrupt"):
        page_count(b"%PDF-1.7\nrubbish", 50)
    with pytest.raises(Undecodable):
        page_count(data[: len(data) // 8], 50)
    with pytest.raises(UnsupportedImage):
        decode_page(b"hello", 0, LIMITS)


def test_a_page_as_large_as_a_house_is_refused_before_it_is_drawn() -> None:
    with pytest.raises(ImageTooLarge, match="Page 1"):
        decode_page(saved("PDF"), 0, ImageLimits(max_pixels=1000, max_side=100, max_aspect=500))


def nested_drawings(depth: int, innermost: bytes) -> bytes:
    """A PDF whose page holds ten drawings, each of which holds ten, and so on, down to the innermost."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>>>"
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>", page]
    for number in range(4, 4 + depth):
        head = b"/Type/XObject/Subtype/Form/BBox[0 0 99 99]/Resources<</XObject<</F %d 0 R>>>>" % (number + 1)
        objects.append(stream(head, b"/F Do " * 10 if number < 3 + depth else innermost, packed=True))
    return pdf_of(*objects)


# Either would be drawn in the end: the one in ten times the second, the other in six times the memory.
@pytest.mark.parametrize(
    ("bound", "value", "data"),
    [
        ("CPU_LIMIT_S", 1, nested_drawings(4, b"0 0 m n " * 100_000)),
        ("MEMORY_LIMIT_BYTES", 2**28, nested_drawings(7, b"0 0 9 9 re f")),
    ],
    ids=["seconds", "memory"],
)
def test_a_small_pdf_that_asks_for_much_time_or_memory_gets_little(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int, data: bytes
) -> None:
    assert decode_page(nested_drawings(3, b"0 0 9 9 re f"), 0, LIMITS).width == 275
    assert len(data) < 3000 and page_count(data, 50) == 1
    monkeypatch.setattr(f"linewise.service.documents.multipage.{bound}", value)
    with pytest.raises(Undecodable, match="too much time or memory"):
        decode_page(data, 0, LIMITS)


@pytest.mark.parametrize("file_format", ["PDF", "TIFF"])
def test_a_document_answers_with_its_pages(client: TestClient, file_format: str) -> None:
    response = post(client, saved(file_format), mode="page")
    assert response.status_code == 200, response.text
    body = response.json()
    assert "lines" not in body and body["mode"] == "page" and body["warnings"] == []
    assert [page["page"] for page in body["pages"]] == [1, 2, 3]
    assert [len(page["lines"]) for page in body["pages"]] == [2, 0, 3]
    assert body["pages"][1]["warnings"] == ["no_text"]
    assert body["text"] == "\n".join(line["text"] for page in body["pages"] for line in page["lines"])
    assert [float(text) for text in body["text"].split()] == pytest.approx([20, 60, 100, 140, 180], abs=6)


def test_a_pdf_may_come_as_such(client: TestClient) -> None:
    headers = {"content-type": "application/pdf"}
    for options in ({}, {"mode": "auto"}):
        body = client.post("/recognize", params=options, content=saved("PDF"), headers=headers).json()
        assert len(body["pages"]) == 3


def test_where_a_line_is_asked_for_a_document_is_told_what_to_ask_for(client: TestClient) -> None:
    for file_format, status in (("PDF", 415), ("TIFF", 422)):
        response = post(client, saved(file_format), mode="line")
        assert response.status_code == status
        assert "mode=page" in response.json()["detail"]


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_an_animation_is_refused_with_the_limit_in_every_mode(client: TestClient, file_format: str) -> None:
    for mode in ({}, {"mode": "page"}, {"mode": "line"}):
        response = post(client, saved(file_format), **mode)
        assert (response.status_code, response.json()["code"]) == (422, "animated")
        assert "one is the limit for animations" in response.json()["detail"]


def test_the_limit_of_pages_is_a_setting(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_pages=2)
    for mode in ({}, {"mode": "page"}):
        refused = post(client, saved("TIFF"), **mode)
        assert (refused.status_code, refused.json()["code"]) == (422, "image_too_large")
        assert "more than 2 pages" in refused.json()["detail"]

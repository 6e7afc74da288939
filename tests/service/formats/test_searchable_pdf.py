"""Searchable PDF: visible page, invisible text, position of each letter."""

from __future__ import annotations

import io
import math
import time

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from linewise.service.documents.multipage import RENDER_DPI
from tests.service.conftest import encode
from tests.service.formats.samples import boxes_in_pdf, document_of, drawn, line_of, pdf_of, picture, texts_of_pdf


@pytest.mark.parametrize("angle", [0, 12, -90])
def test_every_letter_can_be_found_where_it_stands(angle: float) -> None:
    text, start = "čas ß café €", (40.0, 60.0 if angle >= 0 else 250.0)
    pdf = pdf_of(document_of([line_of(text, start, angle)]), picture())
    assert texts_of_pdf(pdf) == [text]
    letters = [(i, letter) for i, letter in enumerate(text) if letter != " "]
    for (i, letter), (found, left, top, right, bottom) in zip(letters, boxes_in_pdf(pdf), strict=True):
        assert found == letter
        x, y = 12 * (i + 0.5), 12.0
        turn = math.radians(angle)
        wanted = (
            start[0] + x * math.cos(turn) - y * math.sin(turn),
            start[1] + x * math.sin(turn) + y * math.cos(turn),
        )
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(wanted, abs=5)


def test_the_whole_alphabet_can_be_copied() -> None:
    from linewise.model.network.charset import DEFAULT_ALPHABET

    # PDFium leaves out a hyphen at the end of a line, so none stands there.
    rows = [DEFAULT_ALPHABET[first : first + 30].strip() for first in range(0, len(DEFAULT_ALPHABET), 30)]
    lines = [line_of(row, (10, 10 + 30 * i)) for i, row in enumerate(rows)]
    height = 30 * len(rows) + 20
    pdf = pdf_of(document_of(lines, size=(400, height)), picture((400, height)))
    assert texts_of_pdf(pdf)[0].split("\n") == rows


def test_the_page_looks_like_the_picture() -> None:
    data = picture()
    pdf = pdf_of(document_of([line_of("unseen")]), data)
    assert np.abs(drawn(pdf).astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 1
    with pypdfium2.PdfDocument(pdf) as document:
        assert document[0].get_size() == pytest.approx((400 * 72 / RENDER_DPI, 300 * 72 / RENDER_DPI), abs=0.01)


def test_a_plain_jpeg_that_is_upright_is_taken_over_as_it_is() -> None:
    shot = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8))
    data = encode(shot, "JPEG", quality=40)
    assert data in pdf_of(document_of([line_of("a")]), data)
    exif = Image.Exif()
    exif[0x0112] = 2  # a mirror, which turns nothing
    turned, cmyk = encode(shot, "JPEG", exif=exif), encode(shot.convert("CMYK"), "JPEG")
    coloured = encode(shot, "JPEG", icc_profile=b"not a profile, and not asked whether it is one")
    for other in (turned, cmyk, coloured):
        pdf = pdf_of(document_of([line_of("a")]), other)
        assert other not in pdf and texts_of_pdf(pdf) == ["a"]


def test_a_photo_without_loss_does_not_make_a_huge_file() -> None:
    noise = np.random.default_rng(1).normal(128, 20, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    data = encode(Image.fromarray(noise))
    assert len(pdf_of(document_of([line_of("a")]), data)) < len(data) / 2


def test_equal_answers_make_equal_files_whatever_the_time() -> None:
    document, data = document_of([line_of("again")]), picture()
    first = pdf_of(document, data)
    time.sleep(1.1)  # times in a PDF and in its fonts are in seconds
    assert pdf_of(document, data) == first

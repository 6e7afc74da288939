"""Sample documents with known words and positions, and parsers of written files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pypdfium2
from PIL import Image

from linewise.service.documents.image import ImageLimits
from linewise.service.documents.layout import Document, Line, Page, Point, Polygon, Word
from linewise.service.documents.multipage import RENDER_DPI
from linewise.service.formats.searchable_pdf import SearchablePdf
from tests.service.conftest import encode

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768, max_aspect=500)
ALTO = "{http://www.loc.gov/standards/alto/ns-v4#}"
BOX = {"HPOS", "VPOS", "WIDTH", "HEIGHT"}


def line_of(text: str, start: Point = (20, 30), angle: float = 0.0, advance: float = 12, height: float = 24) -> Line:
    """A monospaced line from a top left corner, rotated clockwise by an angle in degrees."""
    along = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def corner(x: float, y: float) -> Point:
        return start[0] + x * along[0] - y * along[1], start[1] + x * along[1] + y * along[0]

    def cell(left: float, right: float) -> Polygon:
        return corner(left, 0), corner(right, 0), corner(right, height), corner(left, height)

    words = tuple(  # each as wide as its letters, the weakest of which is the last one
        Word(found[0], 0.9 - 0.01 * (found.end() - 1), cell(advance * found.start(), advance * found.end()))
        for found in re.finditer(r"\S+", text)
    )
    return Line(text, 0.8, 0.7, cell(0, advance * len(text)), words=words)


def document_of(*pages: Sequence[Line], size: tuple[int, int] = (400, 300)) -> Document:
    return Document(tuple(Page(*size, "PNG", 0, 0, "page", tuple(lines)) for lines in pages))


def picture(size: tuple[int, int] = (400, 300)) -> bytes:
    pixels = np.full((size[1], size[0]), 250, np.uint8)
    pixels[40:50, 30:300] = 90
    return encode(Image.fromarray(pixels))


def pdf_of(document: Document, data: bytes) -> bytes:
    pdf = SearchablePdf(data, document, LIMITS)
    for number in range(len(document.pages)):
        pdf.add_page(number)
    return pdf.finish()


PAGES: tuple[list[Line], ...] = (
    [line_of('Žluťoučký <kůň> & "Straße"'), replace(line_of("schräg 5 €", (30, 120), 12), row=1)],
    [],
    [line_of("up", (60, 200), -90)],
)


def classes(text: str, name: str) -> list[ET.Element]:
    return [element for element in ET.fromstring(text.partition("\n")[2]).iter() if element.get("class") == name]


def texts_of_pdf(data: bytes) -> list[str]:
    with pypdfium2.PdfDocument(data) as document:
        found = []
        for number in range(len(document)):
            drawn = document[number].get_textpage()
            found.append(str(drawn.get_text_range()).replace("\r\n", "\n"))
            drawn.close()
        return found


def drawn(pdf: bytes, number: int = 0) -> Any:
    """The pixels of a page, grey, at the scale of its picture."""
    with pypdfium2.PdfDocument(pdf) as document:
        return np.asarray(document[number].render(scale=RENDER_DPI / 72, grayscale=True).to_pil().convert("L")).copy()


def boxes_in_pdf(pdf: bytes) -> list[tuple[str, float, float, float, float]]:
    """Each character of the first page but blanks, with its box in pixels of the picture, from the top left corner."""
    with pypdfium2.PdfDocument(pdf) as document:
        height = document[0].get_height()
        text = document[0].get_textpage()
        found = []
        for index in range(text.count_chars()):
            letter = text.get_text_range(index, 1)
            if letter.strip():
                left, bottom, right, top = text.get_charbox(index)
                scaled = (side * RENDER_DPI / 72 for side in (left, height - top, right, height - bottom))
                found.append((letter, *scaled))
        text.close()
        return found

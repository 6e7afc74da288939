"""hOCR 1.2 output. Specification: https://kba.github.io/hocr-spec/1.2/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from linewise.service.documents.layout import Document, Line, Page, Point, bounding_box
from linewise.service.formats.xml import xml_text


def write_hocr(document: Document) -> str:
    """Write a document with characters as hOCR that is also well-formed XHTML.

    Boxes are in pixels of the upright page. ``x_wconf`` of a word is the confidence of its weakest character, in
    percent. Blocks and paragraphs are not detected: each page has one area with one paragraph, since consumers of hOCR
    expect both.
    """
    html = ET.Element("html", {"xmlns": "http://www.w3.org/1999/xhtml"})
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", {"charset": "utf-8"})
    ET.SubElement(head, "title").text = "What was read"
    for name, content in {
        "ocr-system": "linewise",
        "ocr-capabilities": "ocr_page ocr_carea ocr_par ocr_line ocrx_word",
    }.items():
        ET.SubElement(head, "meta", {"name": name, "content": content})
    body = ET.SubElement(html, "body")
    for page_number, page in enumerate(document.pages, start=1):
        _add_page(body, page, page_number)
    return "<!DOCTYPE html>\n" + ET.tostring(html, "unicode", short_empty_elements=False) + "\n"


def _add_page(body: ET.Element, page: Page, page_number: int) -> None:
    title = f"bbox 0 0 {page.width} {page.height}; ppageno {page_number - 1}"
    element = _add(body, "div", "ocr_page", f"page_{page_number}", title)
    lines = page.printed_lines
    if not lines:
        return
    box = _bbox([corner for line in lines for corner in line.polygon], page)
    area = _add(element, "div", "ocr_carea", f"block_{page_number}", box)
    paragraph = _add(area, "p", "ocr_par", f"par_{page_number}", box)
    for line_number, line in enumerate(lines, start=1):
        title = f"{_bbox(line.polygon, page)}; {_baseline(line, page)}"
        span = _add(paragraph, "span", "ocr_line", f"line_{page_number}_{line_number}", title)
        for word_number, word in enumerate(line.words, start=1):
            title = f"{_bbox(word.polygon, page)}; x_wconf {round(100 * word.confidence)}"
            identifier = f"word_{page_number}_{line_number}_{word_number}"
            _add(span, "span", "ocrx_word", identifier, title, tail=" ").text = xml_text(word.text)


def _add(parent: ET.Element, tag: str, kind: str, identifier: str, title: str, *, tail: str = "\n") -> ET.Element:
    element = ET.SubElement(parent, tag, {"class": kind, "id": identifier, "title": title})
    element.tail = tail
    return element


def _bbox(points: Sequence[Point], page: Page) -> str:
    return "bbox {} {} {} {}".format(*bounding_box(points, page.width, page.height))


def _baseline(line: Line, page: Page) -> str:
    """The baseline as slope and offset from the lower left corner of the box; of a steep line, its angle."""
    (x, y), (end_x, end_y) = line.baseline
    dx, dy = end_x - x, end_y - y
    if dx <= abs(dy):
        return f"textangle {round(-math.degrees(math.atan2(dy, dx))) % 360}"  # counterclockwise
    left, _, _, bottom = bounding_box(line.polygon, page.width, page.height)
    slope = dy / dx
    return f"baseline {slope:.4f} {round(y + slope * (left - x) - bottom)}"

"""ALTO 4.4 output. Specification: https://www.loc.gov/standards/alto/."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from linewise.service.documents.layout import Document, Line, Page, Point, Word, bounding_box
from linewise.service.formats.xml import xml_text

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
SCHEMA_LOCATION = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"


def write_alto(document: Document) -> str:
    """Write a document with characters as ALTO.

    Positions are in pixels of the upright page. ``WC`` of a string is the confidence of its weakest character, in
    [0, 1]; ``PC`` of a page is the mean confidence of its lines. Blocks are not detected: each page has one.
    """
    root = ET.Element(
        "alto",
        {
            "xmlns": NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{NAMESPACE} {SCHEMA_LOCATION}",
            "SCHEMAVERSION": "4.4",
        },
    )
    description = ET.SubElement(root, "Description")
    ET.SubElement(description, "MeasurementUnit").text = "pixel"
    processing = ET.SubElement(description, "Processing", {"ID": "processing_1"})
    ET.SubElement(processing, "processingCategory").text = "contentGeneration"
    software = ET.SubElement(processing, "processingSoftware")
    ET.SubElement(software, "softwareName").text = "linewise"
    layout = ET.SubElement(root, "Layout")
    for number, page in enumerate(document.pages, start=1):
        _add_page(layout, page, number)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _add_page(layout: ET.Element, page: Page, number: int) -> None:
    size = {"WIDTH": str(page.width), "HEIGHT": str(page.height)}
    attributes = {"ID": f"page_{number}", "PHYSICAL_IMG_NR": str(number), **size, "PC": f"{page.confidence:.4f}"}
    element = ET.SubElement(layout, "Page", attributes)
    space = ET.SubElement(element, "PrintSpace", {"HPOS": "0", "VPOS": "0", **size})
    lines = page.printed_lines
    if lines:
        attributes = {"ID": f"block_{number}", **_position([corner for line in lines for corner in line.polygon], page)}
        block = ET.SubElement(space, "TextBlock", attributes)
        for line_number, line in enumerate(lines, start=1):
            _add_line(block, line, page, f"{number}_{line_number}")


def _add_line(block: ET.Element, line: Line, page: Page, identifier: str) -> None:
    attributes = {"ID": f"line_{identifier}", "BASELINE": _points(line.baseline), **_position(line.polygon, page)}
    element = ET.SubElement(block, "TextLine", attributes)
    shape = ET.SubElement(element, "Shape")
    ET.SubElement(shape, "Polygon", {"POINTS": _points(line.polygon)})
    previous: Word | None = None
    for word_number, word in enumerate(line.words, start=1):
        if previous is not None:
            space = previous.polygon[1], word.polygon[0], word.polygon[3], previous.polygon[2]
            ET.SubElement(element, "SP", _position(space, page))
        attributes = {
            "ID": f"string_{identifier}_{word_number}",
            "CONTENT": xml_text(word.text),
            "WC": f"{word.confidence:.4f}",
            **_position(word.polygon, page),
        }
        ET.SubElement(element, "String", attributes)
        previous = word


def _position(points: Sequence[Point], page: Page) -> dict[str, str]:
    left, top, right, bottom = bounding_box(points, page.width, page.height)
    return {"HPOS": str(left), "VPOS": str(top), "WIDTH": str(right - left), "HEIGHT": str(bottom - top)}


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)

"""What was read as plain text, hOCR, ALTO or searchable PDF, and which of them a client wants."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from xml.etree import ElementTree as ET

from python_multipart.multipart import parse_options_header

from linewise.service.api.options import Detail, Options
from linewise.service.api.responses import text_answer
from linewise.service.api.schemas import TextAnswer
from linewise.service.documents.image import ImageLimits
from linewise.service.errors import NotAcceptable
from linewise.service.formats.layout import Corners, Line, Page, Point, Word, box, sheets
from linewise.service.formats.searchable_pdf import SearchablePdf
from linewise.service.inference.pipeline import Outcome


class Format(StrEnum):
    """The forms of an answer, the one for whoever asks for none first."""

    JSON = "json"
    TEXT = "text"
    HOCR = "hocr"
    ALTO = "alto"
    PDF = "pdf"


MEDIA_TYPES = {
    "application/json": Format.JSON,
    "text/plain": Format.TEXT,
    "text/vnd.hocr+html": Format.HOCR,
    "application/alto+xml": Format.ALTO,
    "application/pdf": Format.PDF,
}

# Also understood, but not of a client that takes anything: a browser asks for these by itself, and means pages.
GENERAL_TYPES = {"text/html": Format.HOCR, "application/xml": Format.ALTO, "text/xml": Format.ALTO}

# What XML 1.0 has no way to write: control characters, halves of surrogate pairs, two that are no characters.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ALTO = "http://www.loc.gov/standards/alto/ns-v4#"
ALTO_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"


def negotiated(accept: str) -> tuple[Format, str]:
    """The format, and the name to send it under, that an ``Accept`` header likes best; JSON for an empty one.

    Of types that are liked equally one that is named comes before one that ``*`` stands for, and then JSON first, as in
    ``MEDIA_TYPES``. Raises ``NotAcceptable`` when it names none of them.
    """
    liked = dict(_liked(accept))
    if not accept.strip():
        liked["*/*"] = 1.0
    best: tuple[float, int] = (0.0, 0)
    chosen: tuple[Format, str] | None = None
    for media_type, form in (MEDIA_TYPES if "*/*" in liked else MEDIA_TYPES | GENERAL_TYPES).items():
        ranges = ("*/*", media_type.partition("/")[0] + "/*", media_type)  # the most exact one counts
        exactness, quality = max(((i, liked[one]) for i, one in enumerate(ranges) if one in liked), default=(0, 0.0))
        if quality > 0 and (quality, exactness) > best:
            best, chosen = (quality, exactness), (form, media_type)
    if chosen is None:
        raise NotAcceptable(f"The Accept header names none of {', '.join(MEDIA_TYPES)}.")
    return chosen


def _liked(accept: str) -> Iterator[tuple[str, float]]:
    """Media ranges of an ``Accept`` header with their qualities; what is none is passed over."""
    for part in accept.split(","):
        name, parameters = parse_options_header(part.strip())
        try:
            quality = float(parameters.get(b"q", b"1"))
        except ValueError:
            continue
        if 0.0 <= quality <= 1.0:
            yield name.decode("latin-1").lower(), quality


def answer_of(result: Outcome, options: Options) -> TextAnswer:
    """What was read with all that the functions below need, whatever detail the options ask for."""
    return text_answer(result, options.model_copy(update={"detail": Detail.CHARS}))


def writing(
    form: Format, result: Outcome, options: Options, read_bytes: Callable[[], bytes], limits: ImageLimits
) -> Iterator[bytes | None]:
    """What was read in any form but JSON, as the bytes of a file; before them None, whenever a page of it is drawn.

    ``read_bytes`` gives the bytes of the file that was read. Raises what ``SearchablePdf`` does.
    """
    answer = answer_of(result, options)
    if form is Format.PDF:
        document = SearchablePdf(read_bytes(), sheets(answer), limits)
        for number in document.pages:
            document.add_page(number)
            yield None
        yield document.finish()
    else:
        yield {Format.TEXT: text, Format.HOCR: hocr, Format.ALTO: alto}[form](answer).encode()


def text(answer: TextAnswer) -> str:
    """The text, each line on a line of its own, in reading order; nothing where nothing was read."""
    return answer.text + "\n" * bool(answer.text)


# hOCR -----------------------------------------------------------------------------------------------------------------


def hocr(answer: TextAnswer) -> str:
    """An hOCR 1.2 document that is XHTML as well, of an answer with characters.

    Boxes are in pixels of the upright page. ``x_wconf`` of a word is the confidence of its weakest character, in
    percent. A page is one area with one paragraph: no others are looked for, and programs that read hOCR want them.
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
    for number, sheet in enumerate(sheets(answer), start=1):
        whole = f"bbox 0 0 {sheet.width} {sheet.height}"
        page = _marked(body, "div", "ocr_page", f"page_{number}", f"{whole}; ppageno {number - 1}")
        if not sheet.lines:
            continue
        around = _bbox(_around(sheet), sheet)
        area = _marked(page, "div", "ocr_carea", f"block_{number}", around)
        paragraph = _marked(area, "p", "ocr_par", f"par_{number}", around)
        for row, line in enumerate(sheet.lines, start=1):
            title = f"{_bbox(line.corners, sheet)}; {_direction(line, sheet)}"
            span = _marked(paragraph, "span", "ocr_line", f"line_{number}_{row}", title)
            for place, word in enumerate(line.words, start=1):
                title = f"{_bbox(word.corners, sheet)}; x_wconf {round(100 * word.confidence)}"
                name = f"word_{number}_{row}_{place}"
                _marked(span, "span", "ocrx_word", name, title, " ").text = _xml_text(word.text)
    return "<!DOCTYPE html>\n" + ET.tostring(html, "unicode", short_empty_elements=False) + "\n"


def _marked(parent: ET.Element, tag: str, kind: str, name: str, title: str, tail: str = "\n") -> ET.Element:
    element = ET.SubElement(parent, tag, {"class": kind, "id": name, "title": title})
    element.tail = tail
    return element


def _bbox(corners: Corners, sheet: Page) -> str:
    return "bbox {} {} {} {}".format(*box(corners, sheet.width, sheet.height))


def _direction(line: Line, sheet: Page) -> str:
    """The baseline as slope and offset from the lower left corner of the box, or of a steep line its angle."""
    (x, y), (end_x, end_y) = line.baseline
    across, down = end_x - x, end_y - y
    if across <= abs(down):
        return f"textangle {round(-math.degrees(math.atan2(down, across))) % 360}"  # counterclockwise
    left, _, _, bottom = box(line.corners, sheet.width, sheet.height)
    slope = down / across
    return f"baseline {slope:.4f} {round(y + slope * (left - x) - bottom)}"


# ALTO -----------------------------------------------------------------------------------------------------------------


def alto(answer: TextAnswer) -> str:
    """An ALTO 4.4 document of an answer with characters.

    Places are in pixels of the upright page. ``WC`` of a string is the confidence of its weakest character, in [0, 1];
    ``PC`` of a page is the mean of its lines', each the probability that the line is right. A page has one block, since
    no others are looked for.
    """
    root = ET.Element(
        "alto",
        {
            "xmlns": ALTO,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{ALTO} {ALTO_SCHEMA}",
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
    for number, sheet in enumerate(sheets(answer), start=1):
        size = {"WIDTH": str(sheet.width), "HEIGHT": str(sheet.height)}
        about = {"ID": f"page_{number}", "PHYSICAL_IMG_NR": str(number), **size, "PC": f"{sheet.confidence:.4f}"}
        page = ET.SubElement(layout, "Page", about)
        space = ET.SubElement(page, "PrintSpace", {"HPOS": "0", "VPOS": "0", **size})
        if sheet.lines:
            block = ET.SubElement(space, "TextBlock", {"ID": f"block_{number}", **_place(_around(sheet), sheet)})
            for row, line in enumerate(sheet.lines, start=1):
                _alto_line(block, line, sheet, f"{number}_{row}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _alto_line(block: ET.Element, line: Line, sheet: Page, number: str) -> None:
    about = {"ID": f"line_{number}", "BASELINE": _points(line.baseline), **_place(line.corners, sheet)}
    element = ET.SubElement(block, "TextLine", about)
    shape = ET.SubElement(element, "Shape")
    ET.SubElement(shape, "Polygon", {"POINTS": _points(line.corners)})
    before: Word | None = None
    for place, word in enumerate(line.words, start=1):
        if before is not None:
            gap = before.corners[1], word.corners[0], word.corners[3], before.corners[2]
            ET.SubElement(element, "SP", _place(gap, sheet))
        about = {"ID": f"string_{number}_{place}", "CONTENT": _xml_text(word.text), "WC": f"{word.confidence:.4f}"}
        ET.SubElement(element, "String", about | _place(word.corners, sheet))
        before = word


def _place(corners: Corners, sheet: Page) -> dict[str, str]:
    left, top, right, bottom = box(corners, sheet.width, sheet.height)
    return {"HPOS": str(left), "VPOS": str(top), "WIDTH": str(right - left), "HEIGHT": str(bottom - top)}


def _points(points: tuple[Point, ...]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


# All ------------------------------------------------------------------------------------------------------------------


def _around(sheet: Page) -> Corners:
    """The upright box around all lines of a sheet that has any."""
    across, down = zip(*(corner for line in sheet.lines for corner in line.corners), strict=True)
    left, top, right, bottom = min(across), min(down), max(across), max(down)
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)

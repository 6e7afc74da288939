"""JSON-ready dictionaries of recognised documents, for the HTTP API and the command line."""

from __future__ import annotations

from typing import Any

from linewise.service.documents.layout import Document, Line, Page


def document_fields(document: Document, *, with_characters: bool, with_alternatives: bool) -> dict[str, Any]:
    """Return the fields of a document as the HTTP API names them."""
    first = document.pages[0]
    if len(document.pages) == 1:
        fields = _page_fields(first, with_characters=with_characters, with_alternatives=with_alternatives)
        return fields | {"mode": first.mode}
    pages = [
        {"page": number} | _page_fields(page, with_characters=with_characters, with_alternatives=with_alternatives)
        for number, page in enumerate(document.pages, start=1)
    ]
    return {
        "text": document.text,
        "confidence": document.confidence,
        "confidence_min": document.confidence_min,
        "image": _image_fields(first),
        "mode": first.mode,
        "pages": pages,
        "warnings": list(document.warnings),
    }


def line_record(source: str, page: Page, *, with_alternatives: bool) -> dict[str, Any]:
    """Return the command line's record of an image that was read as one line."""
    (line,) = page.lines
    width, height = page.unturned_size
    record = {"image": source, **_text_fields(line), "width": width, "height": height}
    if with_alternatives:
        record["alternatives"] = _alternatives(line)
    return record


def page_record(source: str, number: int, page: Page, *, with_alternatives: bool = False) -> dict[str, Any]:
    """Return the command line's record of page ``number``, from 1."""
    width, height = page.unturned_size
    return {
        "image": source,
        "page": number,
        "text": page.text,
        "width": width,
        "height": height,
        "turn": page.turn,
        "lines": [
            {**_text_fields(line), "polygon": line.page_polygon, "row": line.row}
            | _line_details(line, with_characters=False, with_alternatives=with_alternatives)
            for line in page.lines
        ],
    }


def _page_fields(page: Page, *, with_characters: bool, with_alternatives: bool) -> dict[str, Any]:
    fields = {**_text_fields(page), "image": _image_fields(page), "warnings": list(page.warnings)}
    if page.mode == "line":
        return fields | _line_details(page.lines[0], with_characters, with_alternatives)
    lines = [
        {**_text_fields(line), "polygon": line.polygon, "row": line.row}
        | _line_details(line, with_characters, with_alternatives)
        for line in page.lines
    ]
    return fields | {"lines": lines}


def _text_fields(part: Page | Line) -> dict[str, Any]:
    return {"text": part.text, "confidence": part.confidence, "confidence_min": part.confidence_min}


def _image_fields(page: Page) -> dict[str, Any]:
    return {
        "width": page.width,
        "height": page.height,
        "format": page.format,
        "orientation_applied": page.orientation_applied,
    }


def _line_details(line: Line, with_characters: bool, with_alternatives: bool) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if with_characters:
        details["chars"] = [
            {"text": character.text, "confidence": character.confidence, "polygon": character.polygon}
            for character in line.characters
        ]
    if with_alternatives:
        details["alternatives"] = _alternatives(line)
    return details


def _alternatives(line: Line) -> list[dict[str, Any]]:
    return [{"text": other.text, "confidence": other.confidence} for other in line.alternatives]

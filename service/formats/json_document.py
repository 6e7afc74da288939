"""JSON-ready dictionaries of recognised documents, for the HTTP API and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linewise.service.documents.layout import Character, Document, Line, Page, Word


def document_fields(
    document: Document, *, with_words: bool, with_characters: bool, with_alternatives: bool
) -> dict[str, Any]:
    """Return the fields of a document as the HTTP API names them."""
    details = _Details(with_words, with_characters, with_alternatives)
    first = document.pages[0]
    if len(document.pages) == 1:
        fields = _page_fields(first, details)
        return fields | {"mode": first.mode}
    pages = [{"page": number} | _page_fields(page, details) for number, page in enumerate(document.pages, start=1)]
    return {
        "text": document.text,
        "confidence": document.confidence,
        "confidence_min": document.confidence_min,
        "image": _image_fields(first),
        "mode": first.mode,
        "pages": pages,
        "warnings": list(document.warnings),
    }


def line_record(
    source: str, page: Page, *, with_words: bool = False, with_characters: bool = False, with_alternatives: bool = False
) -> dict[str, Any]:
    """Return the command line's record of an image that was read as one line."""
    (line,) = page.lines
    width, height = page.unturned_size
    record = {"image": source, **_text_fields(line), "width": width, "height": height}
    return record | _line_details(line, _Details(with_words, with_characters, with_alternatives))


def page_record(
    source: str,
    number: int,
    page: Page,
    *,
    with_words: bool = False,
    with_characters: bool = False,
    with_alternatives: bool = False,
) -> dict[str, Any]:
    """Return the command line's record of page ``number``, from 1."""
    width, height = page.unturned_size
    details = _Details(with_words, with_characters, with_alternatives)
    return {
        "image": source,
        "page": number,
        "text": page.text,
        "width": width,
        "height": height,
        "turn": page.turn,
        "lines": [
            {**_text_fields(line), "polygon": line.page_polygon, "row": line.row} | _line_details(line, details)
            for line in page.lines
        ],
    }


@dataclass(frozen=True)
class _Details:
    """Which details of a line are given."""

    words: bool
    characters: bool
    alternatives: bool


def _page_fields(page: Page, details: _Details) -> dict[str, Any]:
    fields = {**_text_fields(page), "image": _image_fields(page), "warnings": list(page.warnings)}
    if page.mode == "line":
        return fields | _line_details(page.lines[0], details)
    lines = [
        {**_text_fields(line), "polygon": line.polygon, "row": line.row} | _line_details(line, details)
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


def _line_details(line: Line, details: _Details) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if details.words:
        fields["words"] = [_placed_text(word) for word in line.words]
    if details.characters:
        fields["chars"] = [_placed_text(character) for character in line.characters]
    if details.alternatives:
        fields["alternatives"] = _alternatives(line)
    return fields


def _placed_text(part: Word | Character) -> dict[str, Any]:
    return {"text": part.text, "confidence": part.confidence, "polygon": part.polygon}


def _alternatives(line: Line) -> list[dict[str, Any]]:
    return [{"text": other.text, "confidence": other.confidence} for other in line.alternatives]

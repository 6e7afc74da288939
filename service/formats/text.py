"""Plain text output, laid out as on the page."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from linewise.service.documents.layout import Document, Line, Page

MIN_CELL_GAP = 2  # characters between the cells of a row
MAX_COLUMNS = 240  # characters from one edge of a page to the other


def write_text(document: Document) -> str:
    """Write the rows of each page, in reading order, with a newline after each; an empty string without text.

    Rows begin and their cells stand in the columns of characters in which they are on the page.
    """
    return "".join(f"{row}\n" for page in document.pages for row in _rows(page))


def _rows(page: Page) -> list[str]:
    if page.mode == "line":
        return [line.text for line in page.lines if line.text]
    rows = page.rows
    if not rows:
        return []
    widths = [(_right(line) - _left(line)) / len(line.text) for row in rows for line in row]
    character_width = max(median(widths), page.width / MAX_COLUMNS, 1.0)
    return [text for block in _blocks(rows) for text in _lay_out(block, character_width)]


def _blocks(rows: Sequence[list[Line]]) -> list[list[list[Line]]]:
    """Split rows where the order returns to the top of the page, for the next column of prose."""
    blocks: list[list[list[Line]]] = []
    bottom = 0.0
    for row in rows:
        if not blocks or max(y for line in row for _, y in line.polygon) < bottom:
            blocks.append([])
        blocks[-1].append(row)
        bottom = min(y for line in row for _, y in line.polygon)
    return blocks


def _lay_out(block: list[list[Line]], character_width: float) -> list[str]:
    """Texts of rows with spaces before and between their cells; the leftmost row begins in the first column."""
    left = min(_left(line) for row in block for line in row)
    texts = []
    for row in block:
        text = ""
        for line in row:
            column = round((_left(line) - left) / character_width)
            text = text.ljust(max(column, len(text) + MIN_CELL_GAP) if text else column) + line.text
        texts.append(text)
    return texts


def _left(line: Line) -> float:
    return min(x for x, _ in line.polygon)


def _right(line: Line) -> float:
    return max(x for x, _ in line.polygon)

"""Outputs of the tesseract command, in its formats.

Places are in pixels of the stored image. Each page is one block with one paragraph; the cells of a row are one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from linewise.service.documents.layout import Document, Line, Page, bounding_box
from linewise.service.integrations.reading import Orientation, ReadingError
from linewise.service.integrations.tesseract_options import Command, TesseractError

SUFFIXES = {
    "txt": ".txt", "hocr": ".hocr", "alto": ".xml", "tsv": ".tsv", "pdf": ".pdf", "box": ".box", "osd": ".osd",
}  # fmt: skip

# The confidence of an orientation, from that of the text in [0, 1]. Callers take Tesseract's from 14 or 15 on as sure.
ORIENTATION_CONFIDENCE_SCALE = 30.0

SCRIPT = "Latin"  # the only one


def write(format_name: str, document: Document, command: Command, data: bytes) -> Iterator[bytes]:
    """Write a document in a format. Raises ``ReadingError``."""
    if format_name == "txt":
        separator = command.value("page_separator")
        keep_gaps = command.is_true("preserve_interword_spaces")
        yield "".join(_text(page, keep_gaps=keep_gaps) + separator for page in document.pages).encode()
    elif format_name == "hocr":
        from linewise.service.formats.hocr import write_hocr

        yield write_hocr(document).encode()
    elif format_name == "alto":
        from linewise.service.formats.alto import write_alto

        yield write_alto(document).encode()
    elif format_name == "tsv":
        from linewise.service.formats.tsv import write_tsv

        yield write_tsv(document).encode()
    elif format_name == "box":
        yield "".join(_boxes(page, number) for number, page in enumerate(document.pages)).encode()
    else:
        yield _pdf(document, command, data)


def orientation_text(orientation: Orientation) -> str:
    """Describe an orientation in Tesseract's six lines. Raises ``TesseractError`` for a page without text."""
    if orientation.confidence == 0:
        raise TesseractError("Too few characters. Skipping this page\nError during processing.")
    confidence = ORIENTATION_CONFIDENCE_SCALE * orientation.confidence
    return (
        f"Page number: 0\nOrientation in degrees: {-orientation.turn % 360}\nRotate: {orientation.turn}\n"
        f"Orientation confidence: {confidence:.2f}\nScript: {SCRIPT}\nScript confidence: {confidence:.2f}\n"
    )


def _text(page: Page, *, keep_gaps: bool) -> str:
    return "".join(_row_text(row, keep_gaps=keep_gaps) + "\n" for row in page.rows)


def _row_text(row: list[Line], *, keep_gaps: bool) -> str:
    """Join the cells of a row: by one space, or by as many as fit into the gap between them."""
    text = row[0].text
    for previous, line in pairwise(row):
        (start, _), (end, _) = previous.polygon[:2]
        width = max((end - start) / len(previous.text), 1.0)
        gap = max(1, round((line.polygon[0][0] - end) / width)) if keep_gaps else 1
        text += " " * gap + line.text
    return text


def _boxes(page: Page, number: int) -> str:
    """A line for each character: text, left, bottom, right and top from the lower left corner, page number."""
    parts = []
    for line in page.lines:
        for character in line.characters:
            if not character.text.isspace():
                left, top, right, bottom = bounding_box(character.polygon, page.width, page.height)
                box = f"{left} {page.height - bottom} {right} {page.height - top}"
                parts.append(f"{character.text} {box} {number}\n")
    return "".join(parts)


def _pdf(document: Document, command: Command, data: bytes) -> bytes:
    import io

    from PIL import Image

    from linewise.service.documents.multipage import RENDER_DPI, is_pdf
    from linewise.service.errors import ServiceError
    from linewise.service.formats.searchable_pdf import SearchablePdf
    from linewise.service.settings import Settings

    if int(command.value("tessedit_page_number")) >= 0:
        raise TesseractError("Could not set option: tessedit_page_number (a PDF has all pages)")
    dpi = float(command.value("user_defined_dpi"))
    if dpi <= 0 and not is_pdf(data):
        with Image.open(io.BytesIO(data)) as image:
            dpi = float(image.info.get("dpi", (0.0, 0.0))[0])
    try:
        pdf = SearchablePdf(
            data,
            document,
            Settings().image_limits,
            dpi=dpi if dpi > 1 else RENDER_DPI,
            with_images=not command.is_true("textonly_pdf"),
        )
        for number in range(len(document.pages)):
            pdf.add_page(number)
        return pdf.finish()
    except ServiceError as error:
        raise ReadingError(error.detail) from None

"""Searchable PDF: the picture of each page, and over it, unseen, its words where they stand.

The words are written in a font without outlines that has just the characters needed, so that every letter can be found
and copied, whatever fonts a reader has.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from PIL import Image

from linewise.service.documents.image import ImageLimits, plain_jpeg
from linewise.service.documents.multipage import DPI, POINTS, decode_page
from linewise.service.errors import NotAcceptable
from linewise.service.formats.layout import DESCENT, Line, Page
from linewise.service.inference.engine import turned

EM = 1000  # units of the font in a line's height
ADVANCE = 500  # of every character, in these units
QUALITY = 85  # of a picture as JPEG: small, and no marks around letters that an eye would see
FAMILY = "unseen"


def check() -> None:
    """Raise ``NotAcceptable`` where the extra that writes PDF is not installed."""
    if find_spec("fpdf") is None:
        raise NotAcceptable("PDF is written where the extra is installed: pip install 'linewise[pdf]'.")


class SearchablePdf:
    """A PDF that grows page by page, a page being as large as its picture at 200 dpi."""

    def __init__(self, data: bytes, sheets: Sequence[Page], limits: ImageLimits) -> None:
        """Begin with ``data``, the file that was read, and what was read in it; raises as ``check``."""
        check()
        from fpdf import FPDF, TextMode
        from fpdf.fonts import TTFFont

        self._data, self._sheets, self._limits = data, sheets, limits
        self._pdf = FPDF(unit="pt")
        self._pdf.set_creator("linewise")
        self._pdf.set_creation_date(datetime.fromtimestamp(0, UTC))  # of equal pictures, equal files
        self._pdf.text_mode = TextMode.INVISIBLE
        letters = {letter for sheet in sheets for line in sheet.lines for word in line.words for letter in word.text}
        font: Any = io.BytesIO(_font("".join(sorted(letters | {" "}))))
        self._pdf.fonts[FAMILY] = TTFFont(self._pdf, font, FAMILY, "")  # add_font would want a file on the disk

    def add_page(self, number: int) -> None:
        """Draw page ``number``, from 0; raises what ``documents.decode_page`` does."""
        sheet, scale = self._sheets[number], POINTS / DPI
        size = sheet.width * scale, sheet.height * scale
        self._pdf.add_page(format=size)
        self._pdf.image(self._picture(number), 0, 0, *size)
        for line in sheet.lines:
            self._write(line, scale)

    def finish(self) -> bytes:
        """The whole file."""
        return bytes(self._pdf.output())

    @property
    def pages(self) -> range:
        """The numbers of the pages that there are to draw."""
        return range(len(self._sheets))

    def _picture(self, number: int) -> bytes | Image.Image:
        """The file itself if it is a plain JPEG and upright, else its pixels, as JPEG where that is smaller."""
        sheet = self._sheets[number]
        if sheet.turn == 0 and plain_jpeg(self._data):
            return self._data
        page = decode_page(self._data, number, self._limits)
        picture = Image.fromarray(turned(page.pixels, sheet.turn - page.orientation_applied))
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=QUALITY)
        # Drawn pages, of few levels, are smaller without loss; a quick try tells.
        return picture if len(zlib.compress(picture.tobytes(), 1)) < packed.tell() else packed.getvalue()

    def _write(self, line: Line, scale: float) -> None:
        """The words of a line, each stretched to its width, on the baseline, with a space after all but the last."""
        pdf = self._pdf
        (x, y), (end_x, end_y) = ((across * scale, down * scale) for across, down in line.baseline)
        start, _, _, below = line.corners
        size = max(math.dist(start, below) * scale, 0.1)
        with pdf.rotation(-math.degrees(math.atan2(end_y - y, end_x - x)), x, y):
            pdf.set_font(FAMILY, size=size)
            for number, word in enumerate(line.words, start=1):
                begin, end = (math.dist(below, corner) * scale for corner in (word.corners[3], word.corners[2]))
                plain = len(word.text) * size * ADVANCE / EM
                pdf.set_stretching(max(100 * (end - begin) / plain, 0.1))
                pdf.text(x + begin, y, word.text + " " * (number < len(line.words)))


def _font(letters: str) -> bytes:
    """A TrueType font that has these characters, all of one width and none with ink."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.misc.timeTools import timestampSinceEpoch
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    ascent, descent = round(EM * (1 - DESCENT)), round(-EM * DESCENT)
    pen = TTGlyphPen(None)
    pen.moveTo((0, descent))  # to and fro: no ink, but a cell, without which PDFium takes a lone letter for nothing
    pen.lineTo((ADVANCE, ascent))
    pen.closePath()
    cell = pen.glyph()
    names = {ord(letter): f"u{ord(letter):04X}" for letter in letters}
    glyphs = [".notdef", *names.values()]
    builder = FontBuilder(EM, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(glyphs, cell))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (ADVANCE, 0)))
    builder.setupHorizontalHeader(ascent=ascent, descent=descent)
    builder.setupOS2(sTypoAscender=ascent, sTypoDescender=descent, sCapHeight=ascent)
    builder.setupNameTable({"familyName": FAMILY, "styleName": "Regular", "fullName": FAMILY, "psName": FAMILY})
    builder.setupPost(isFixedPitch=1)
    began = timestampSinceEpoch(0)
    builder.updateHead(created=began, modified=began)
    builder.font.recalcTimestamp = False
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()

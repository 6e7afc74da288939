"""Searchable PDF output: the image of each page under its invisible text.

The text uses a generated font without outlines that contains exactly the characters needed. Every character can be
searched and copied, independent of the fonts of the viewer.
"""

from __future__ import annotations

import io
import math
import zlib
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from PIL import Image

from linewise.service.documents.image import ImageLimits, is_plain_jpeg, rotated
from linewise.service.documents.layout import DESCENDER_RATIO, Document, Line
from linewise.service.documents.multipage import POINTS_PER_INCH, RENDER_DPI, decode_page
from linewise.service.documents.workers.process import Stop
from linewise.service.errors import NotAcceptable

FONT_FAMILY = "unseen"
UNITS_PER_EM = 1000
ADVANCE_UNITS = 500  # width of every character, in font units
JPEG_QUALITY = 85  # no visible artefacts around letters


def check_installed() -> None:
    """Raise ``NotAcceptable`` if the extra that writes PDF is not installed."""
    if find_spec("fpdf") is None:
        raise NotAcceptable("PDF output needs an optional dependency: pip install 'linewise[pdf]'.")


class SearchablePdf:
    """A PDF that is written page by page; a page has the size of its image at ``dpi``."""

    def __init__(
        self,
        data: bytes,
        document: Document,
        limits: ImageLimits,
        stop: Stop | None = None,
        *,
        dpi: float = RENDER_DPI,
        with_images: bool = True,
    ) -> None:
        """Begin the PDF of ``document``, which was recognised in the file ``data``.

        ``stop`` is that of ``multipage.decode_page``. Without images, the pages hold the invisible text only. Raises
        ``NotAcceptable``.
        """
        check_installed()
        from fpdf import FPDF, TextMode
        from fpdf.fonts import TTFFont

        self._data, self._pages, self._limits, self._stop = data, document.pages, limits, stop
        self._scale, self._with_images = POINTS_PER_INCH / dpi, with_images
        self._pdf = FPDF(unit="pt")
        self._pdf.set_creator("linewise")
        self._pdf.set_creation_date(datetime.fromtimestamp(0, UTC))  # reproducible output
        self._pdf.text_mode = TextMode.INVISIBLE
        letters = {letter for line in document.lines for word in line.words for letter in word.text}
        font_file: Any = io.BytesIO(_build_font("".join(sorted(letters | {" "}))))
        self._pdf.fonts[FONT_FAMILY] = TTFFont(self._pdf, font_file, FONT_FAMILY, "")  # add_font reads from disk only

    def add_page(self, number: int) -> None:
        """Draw page ``number``, from 0; raises what ``multipage.decode_page`` does."""
        page, scale = self._pages[number], self._scale
        size = page.width * scale, page.height * scale
        self._pdf.add_page(format=size)
        if self._with_images:
            self._pdf.image(self._image(number), 0, 0, *size)
        for line in page.printed_lines:
            self._write(line, scale)

    def finish(self) -> bytes:
        """Return the file."""
        return bytes(self._pdf.output())

    def _image(self, number: int) -> bytes | Image.Image:
        """Return the original file if it is a plain upright JPEG; else the pixels, as JPEG where that is smaller."""
        page = self._pages[number]
        if page.orientation_applied == 0 and is_plain_jpeg(self._data):
            return self._data
        decoded = decode_page(self._data, number, self._limits, self._stop)
        image = Image.fromarray(rotated(decoded.pixels, page.orientation_applied - decoded.orientation_applied))
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=JPEG_QUALITY)
        # Rendered pages have few grey levels and are smaller without loss; the fastest compression is a fair estimate.
        return image if len(zlib.compress(image.tobytes(), 1)) < jpeg.tell() else jpeg.getvalue()

    def _write(self, line: Line, scale: float) -> None:
        """Write the words of a line on its baseline, each stretched to its width, with spaces between them."""
        pdf = self._pdf
        (x, y), (end_x, end_y) = ((point_x * scale, point_y * scale) for point_x, point_y in line.baseline)
        start, _, _, below_start = line.polygon
        size = max(math.dist(start, below_start) * scale, 0.1)
        with pdf.rotation(-math.degrees(math.atan2(end_y - y, end_x - x)), x, y):
            pdf.set_font(FONT_FAMILY, size=size)
            for number, word in enumerate(line.words, start=1):
                begin, end = (math.dist(below_start, corner) * scale for corner in (word.polygon[3], word.polygon[2]))
                natural_width = len(word.text) * size * ADVANCE_UNITS / UNITS_PER_EM
                pdf.set_stretching(max(100 * (end - begin) / natural_width, 0.1))
                pdf.text(x + begin, y, word.text + " " * (number < len(line.words)))


def _build_font(letters: str) -> bytes:
    """Build a TrueType font of these characters, all of one width and without outlines."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.misc.timeTools import timestampSinceEpoch
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    ascent, descent = round(UNITS_PER_EM * (1 - DESCENDER_RATIO)), round(-UNITS_PER_EM * DESCENDER_RATIO)
    pen = TTGlyphPen(None)
    pen.moveTo((0, descent))  # no area, but an extent: without one, PDFium ignores a single letter
    pen.lineTo((ADVANCE_UNITS, ascent))
    pen.closePath()
    cell = pen.glyph()
    names = {ord(letter): f"u{ord(letter):04X}" for letter in letters}
    glyphs = [".notdef", *names.values()]
    builder = FontBuilder(UNITS_PER_EM, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(glyphs, cell))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (ADVANCE_UNITS, 0)))
    builder.setupHorizontalHeader(ascent=ascent, descent=descent)
    builder.setupOS2(sTypoAscender=ascent, sTypoDescender=descent, sCapHeight=ascent)
    builder.setupNameTable(
        {"familyName": FONT_FAMILY, "styleName": "Regular", "fullName": FONT_FAMILY, "psName": FONT_FAMILY}
    )
    builder.setupPost(isFixedPitch=1)
    epoch = timestampSinceEpoch(0)
    builder.updateHead(created=epoch, modified=epoch)
    builder.font.recalcTimestamp = False
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()

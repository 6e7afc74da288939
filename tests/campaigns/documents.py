"""Small valid PDF and TIFF files of several pages, and structural mutations of them."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Sequence
from random import Random

from PIL import Image, ImageDraw

PAGES = 3
TIFFS = (
    ("L", "raw"),
    ("RGB", "tiff_lzw"),
    ("L", "tiff_adobe_deflate"),
    ("1", "group4"),
    ("RGB", "jpeg"),
    ("L", "packbits"),
)
NUMBERS = (b"0", b"-1", b"1", b"3", b"255", b"65536", b"2147483647", b"4294967295", b"9223372036854775808", b"1e38",
           b".00001", b"-32769", b"9" * 400)  # fmt: skip
OPERATORS = (b"q " * 3000, b"Q " * 9, b"1e9 0 0 1e9 0 0 cm ", b"0 0 0 0 0 0 cm ", b"/F Do " * 50, b"/I Do ", b"/S sh ",
             b"BT /T 1e6 Tf (Total) Tj ET ", b"0 0 m 9e9 9e9 l S ", b"[0 0] 0 d 0 0 m 99 99 l S ", b"[" * 3000,
             b"BI /W 9999 /H 9999 /BPC 8 /CS /G ID x EI ", b"/P cs /Q scn 0 0 99 99 re f ")  # fmt: skip
VALUES = (0, 1, 2, 3, 0x7F, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TAGS = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 330, 338, 339, 347, 34665)


def base_documents() -> list[tuple[str, bytes]]:
    """Create documents of a few pages with one word each: in every compression, and a PDF with vector graphics."""
    pages = []
    for number in range(PAGES):
        page = Image.new("L", (160, 100), 240)
        ImageDraw.Draw(page).text((20, 30), f"page {number}", fill=10, font_size=24)
        pages.append(page)
    documents = [("PDF", drawn_pdf())]
    for name, mode, compression in [("TIFF", *variant) for variant in TIFFS] + [
        ("PDF", mode, "") for mode in ("1", "L", "RGB")
    ]:
        first, *others = (page.convert(mode) for page in pages)
        buffer = io.BytesIO()
        options = {"compression": compression} if compression else {}
        first.save(buffer, name, save_all=True, append_images=others, **options)
        documents.append((name, buffer.getvalue()))
    return documents


def pdf_of(*objects: bytes) -> bytes:
    """Build a PDF of objects, numbered from 1; the first is the catalogue."""
    data, offsets = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(data))
    return data + head + table + end


def stream(head: bytes, content: bytes, packed: bool = False) -> bytes:
    """Build a PDF stream object, deflated if ``packed``."""
    if packed:
        head, content = head + b"/Filter/FlateDecode", zlib.compress(content)
    return b"<<%b/Length %d>>\nstream\n%b\nendstream" % (head, len(content), content)


def drawn_pdf() -> bytes:
    """Build a PDF of two pages with text, a form, an image, a shading, a pattern and an annotation."""
    resources = (
        b"/Resources<</Font<</T 7 0 R>>/XObject<</F 8 0 R/I 9 0 R>>/Shading<</S 10 0 R>>/Pattern<</Q 11 0 R>>"
        b"/ColorSpace<</P/Pattern>>>>"
    )
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 160 100]/Rotate 0/UserUnit 1%b/Contents %d 0 R%b>>"
    text = b"BT /T 24 Tf 20 50 Td (Total 12.50) Tj ET "
    return pdf_of(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>",
        page % (resources, 5, b"/Annots[12 0 R]"),
        page % (resources, 6, b""),
        stream(b"", text + b"q 20 0 0 20 9 9 cm /I Do Q /F Do 0 0 1 RG 2 w 9 9 m 90 9 l S "),
        stream(b"", b"/S sh /P cs /Q scn 0 0 99 30 re f 0 g " + text, packed=True),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        stream(b"/Subtype/Form/BBox[0 0 50 50]/Matrix[1 0 0 1 5 5]" + resources, b"0 0 20 20 re W n " + text),
        stream(b"/Subtype/Image/Width 4/Height 4/BitsPerComponent 8/ColorSpace/DeviceGray", bytes(range(16)), True),
        b"<</ShadingType 2/ColorSpace/DeviceGray/Coords[0 0 99 99]"
        b"/Function<</FunctionType 2/Domain[0 1]/C0[1]/C1[.8]/N 1>>>>",
        stream(b"/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 9 9]/XStep 9/YStep 9/Resources<<>>", b"0 0 3 3 re f"),
        b"<</Type/Annot/Subtype/Stamp/Rect[100 5 150 30]/F 4/AP<</N 8 0 R>>>>",
    )  # fmt: skip


def mutate_structure(random: Random, name: str, data: bytes) -> bytes:
    """Apply one mutation to the structure of a document."""
    return _mutate_pdf(random, data) if name == "PDF" else _mutate_tiff(random, data)


def _mutate_pdf(random: Random, data: bytes) -> bytes:
    """Replace a number, a reference or a name, or insert unusual operators.

    The cross-reference table stays as it is, because PDFium rebuilds it.
    """
    kind = random.randrange(5)
    if kind == 0:
        return _replace_match(random, data, rb"(?<![\w#])-?\d*\.?\d+(?! 0 R)", NUMBERS)
    if kind == 1:
        return _replace_match(random, data, rb"\d+ 0 R", [b"%d 0 R" % number for number in range(15)])
    if kind == 2:
        return _replace_match(random, data, rb"/[A-Za-z]\w*", re.findall(rb"/[A-Za-z]\w*", data))
    if kind == 3:
        return _replace_match(random, data, rb"(?<=stream\n)(?=[ -~])", [random.choice(OPERATORS)])
    return _replace_match(random, data, rb"(?<=<<)(?=/)", re.findall(rb"/\w+ ?[\w\[][^/<>]*", data) or [b"/A 1"])


def _replace_match(random: Random, data: bytes, pattern: bytes, replacements: Sequence[bytes]) -> bytes:
    """Replace a random match of the pattern, if any, by a random replacement."""
    matches = list(re.finditer(pattern, data))
    if not matches or not replacements:
        return data
    match = random.choice(matches)
    return data[: match.start()] + random.choice(replacements) + data[match.end() :]


def _mutate_tiff(random: Random, data: bytes) -> bytes:
    """Replace a tag, type, count or value of a page, its number of entries or the offset of the next page."""
    order = "<" if data[:2] == b"II" else ">"
    pages = _directories(data, order)
    if not pages:
        return data
    start, entries = random.choice(pages)
    number = random.choice((*VALUES, *(offset for offset, _ in pages), len(data) - 2))
    if random.random() < 0.2:
        return _overwrite(data, start + 2 + 12 * entries, struct.pack(order + "I", number))
    if random.random() < 0.1:
        return _overwrite(data, start, struct.pack(order + "H", number & 0xFFFF))
    entry = start + 2 + 12 * random.randrange(max(1, entries))
    field, kind = random.choice(((0, "H"), (2, "H"), (4, "I"), (8, "I"), (8, "I"), (8, "H")))
    value = random.choice(TAGS) if field == 0 else random.randrange(20) if field == 2 else number
    return _overwrite(data, entry + field, struct.pack(order + kind, value & (0xFFFF if kind == "H" else 0xFFFFFFFF)))


def _directories(data: bytes, order: str) -> list[tuple[int, int]]:
    """List offset and number of entries of the image file directories of a TIFF, as far as they are valid."""
    directories: list[tuple[int, int]] = []
    link = 4
    while link + 4 <= len(data) and len(directories) < PAGES:
        (offset,) = struct.unpack_from(order + "I", data, link)
        if not 8 <= offset <= len(data) - 2:
            break
        (entries,) = struct.unpack_from(order + "H", data, offset)
        directories.append((offset, entries))
        link = offset + 2 + 12 * entries
    return directories


def _overwrite(data: bytes, offset: int, piece: bytes) -> bytes:
    return data[:offset] + piece + data[offset + len(piece) :]

"""Output formats of recognised documents, and the writer of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

from linewise.service.documents.image import ImageLimits
from linewise.service.documents.layout import Document
from linewise.service.documents.workers.process import Stop
from linewise.service.formats.alto import write_alto
from linewise.service.formats.hocr import write_hocr
from linewise.service.formats.searchable_pdf import SearchablePdf
from linewise.service.formats.text import write_text
from linewise.service.formats.tsv import write_tsv


class Format(StrEnum):
    """Output formats; the default comes first."""

    JSON = "json"
    TEXT = "text"
    HOCR = "hocr"
    ALTO = "alto"
    TSV = "tsv"
    PDF = "pdf"


WRITERS = {Format.TEXT: write_text, Format.HOCR: write_hocr, Format.ALTO: write_alto, Format.TSV: write_tsv}


def render(
    output_format: Format,
    document: Document,
    read_bytes: Callable[[], bytes],
    limits: ImageLimits,
    stop: Stop | None = None,
) -> Iterator[bytes | None]:
    """Write a document with words in any format but JSON; yield None after each PDF page, then the file.

    ``read_bytes`` returns the bytes of the file that was recognised; a PDF shows its pages. ``stop``
    is that of ``SearchablePdf``. Raises what ``SearchablePdf`` does.
    """
    if output_format is Format.PDF:
        pdf = SearchablePdf(read_bytes(), document, limits, stop)
        for number in range(len(document.pages)):
            pdf.add_page(number)
            yield None
        yield pdf.finish()
    else:
        yield WRITERS[output_format](document).encode()

"""Files of ``linewise read --format``: the target of each source, and its content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from linewise.service.bulk.auto import AutoReader
from linewise.service.bulk.sources import Failure, content, displayed

if TYPE_CHECKING:
    from linewise.model import Decoding, PageReader, PageReading, Reading
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.documents.layout import Document, Page
    from linewise.service.inference.loading import LineReader

Form = Literal["json", "text", "hocr", "alto", "tsv", "pdf"]
SUFFIXES: dict[Form, str] = {
    "json": ".json", "text": ".txt", "hocr": ".hocr", "alto": ".xml", "tsv": ".tsv", "pdf": ".pdf",
}  # fmt: skip


Detail = Literal["text", "words", "chars"]


@dataclass(frozen=True)
class RecordOptions:
    """What JSON objects hold: so many alternative texts, and words or characters as well."""

    alternatives: int = 0
    detail: Detail = "text"

    @property
    def parts(self) -> dict[str, bool]:
        """Keyword arguments of the functions that build pages and records."""
        return {"with_words": self.detail != "text", "with_characters": self.detail == "chars"}


TEXT_ONLY = RecordOptions()


class ExportError(Exception):
    """The targets are unusable; the message is one line with the reason."""


def targets(sources: Sequence[str], form: Form, output: Path | None) -> list[Path | None]:
    """Return the target of each source: a file in the folder ``output``, or the file ``output`` of a single source.

    A name without a suffix is a folder. None stands for standard output. Raises ``ExportError``.
    """
    count = len(sources)
    if output is None:
        if count > 1:
            raise ExportError(f"--format {form} of {count} images needs a folder for as many files: --output FOLDER")
        return [None]
    if output.suffix and not output.is_dir():
        if count > 1:
            raise ExportError(f"--output {output} names one file, and there are {count} images: name a folder")
        paths = [output]
    else:
        if output.is_file():
            raise ExportError(f"--output {output} is a file; name a folder, or a file that ends in {SUFFIXES[form]}")
        paths = [output / f"{'stdin' if source == '-' else Path(source).stem}{SUFFIXES[form]}" for source in sources]
    inputs = {Path(source).resolve() for source in sources}
    source_of: dict[Path, str] = {}
    for source, path in zip(sources, paths, strict=True):
        if path.resolve() in inputs:
            raise ExportError(f"{path} is one of the images and would be lost: name another --output")
        if path in source_of:
            raise ExportError(f"{source_of[path]} and {source} would both become {path}: write them to two folders")
        source_of[path] = source
    return list(paths)


def render_source(
    source: str,
    form: Form,
    reader: LineReader,
    pages: PageReader | AutoReader | None,
    limits: ImageLimits,
    decoding: Decoding | None = None,
    record: RecordOptions = TEXT_ONLY,
) -> bytes | Failure:
    """Read a source and return its file; one broken page fails the whole document.

    The source is read as one line without ``pages``, as pages with a ``PageReader``.
    """
    from linewise.service.errors import ServiceError
    from linewise.service.formats.formats import Format, render

    try:
        data = content(source)
        if isinstance(pages, AutoReader):
            document = _read_auto(source, data, pages, limits)
        else:
            document = _read(data, reader, pages, limits, decoding)
        if isinstance(document, Failure):
            return document
        if form == "json":
            return "".join(
                as_json(source, number, page, record) + "\n" for number, page in enumerate(document.pages, start=1)
            ).encode()
        steps = render(Format(form), document, lambda: data, limits)
        return next(step for step in steps if step is not None)
    except ServiceError as error:
        return Failure(source, error.detail)
    except OSError as error:
        return Failure(source, (error.strerror or "cannot be opened") + ".")


def _read_auto(source: str, data: bytes, reader: AutoReader, limits: ImageLimits) -> Document | Failure:
    from linewise.service.documents.layout import Document
    from linewise.service.documents.multipage import open_file

    pages = []
    for read in reader.read_file(source, open_file(data, limits)):
        if isinstance(read, Failure):
            return read
        pages.append(read.page())
    return Document(tuple(pages))


def _read(
    data: bytes, reader: LineReader, pages: PageReader | None, limits: ImageLimits, decoding: Decoding | None
) -> Document:
    from linewise.service.documents.assembly import page_from_line, page_from_lines
    from linewise.service.documents.image import decode
    from linewise.service.documents.layout import Document
    from linewise.service.documents.multipage import decode_page, page_count

    if pages is None:
        image = decode(data, limits)
        reading = reader.read([image.pixels], [decoding])[0]
        return Document((page_from_line(image, reading.turn, reading),))
    document_pages = []
    for number in range(page_count(data, limits.max_pages)):
        image = decode_page(data, number, limits)
        page_reading = pages.read(image.pixels)
        document_pages.append(page_from_lines(image, page_reading.turn, page_reading))
    return Document(tuple(document_pages))


def as_json(source: str, number: int, page: Page, record: RecordOptions) -> str:
    """Return the JSON object of a line, or of page ``number`` from 1, without a line break."""
    from linewise.service.formats.json_document import line_record, page_record

    with_alternatives = record.alternatives > 0
    if page.mode == "line":
        fields = line_record(displayed(source), page, with_alternatives=with_alternatives, **record.parts)
    else:
        fields = page_record(displayed(source), number, page, with_alternatives=with_alternatives, **record.parts)
    return json.dumps(fields, ensure_ascii=False)


def line_as_json(source: str, image: UprightImage, reading: Reading, record: RecordOptions) -> str:
    """Return the JSON object of an image of one line, without a line break."""
    from linewise.service.documents.assembly import page_from_line

    return as_json(source, 1, page_from_line(image, reading.turn, reading, **record.parts), record)


def page_as_json(source: str, number: int, image: UprightImage, reading: PageReading, record: RecordOptions) -> str:
    """Return the JSON object of page ``number``, from 1, without a line break."""
    from linewise.service.documents.assembly import page_from_lines

    return as_json(source, number, page_from_lines(image, reading.turn, reading, **record.parts), record)

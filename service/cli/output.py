"""Outputs of ``linewise read``: lines and pages on standard output, documents, rows of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from linewise.service.bulk.auto import BATCH_SIZE_IMAGES, AutoReader, ReadPage
from linewise.service.bulk.export import (
    TEXT_ONLY,
    Form,
    RecordOptions,
    as_json,
    line_as_json,
    page_as_json,
    render_source,
)
from linewise.service.bulk.sources import Failure, displayed, document_length, document_pages, open_source
from linewise.service.cli.common import fail, print_error, progress_bar, replicas_from_environment, require_packages

if TYPE_CHECKING:
    from linewise.model import Decoding, PageReader, PageReading, Reading
    from linewise.service.bulk.ray_data import DecodingArguments
    from linewise.service.bulk.writer import Row
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.inference.loading import LineReader
    from linewise.service.settings import Settings


@dataclass(frozen=True)
class LineResult:
    """An image of one line and its reading."""

    source: str
    image: UprightImage
    reading: Reading


def print_lines(
    reader: LineReader,
    sources: list[str],
    limits: ImageLimits,
    decoding: Decoding | None,
    record: RecordOptions | None,
    explanation: Path | None,
    annotation: Path | None = None,
) -> int:
    """Print the text of each image and return the number of failures.

    ``record`` says what JSON objects hold; None prints plain text. ``explanation`` and ``annotation`` are the pictures
    to draw, if any.
    """
    failures = 0
    with progress_bar(len(sources)) as advance:
        for result in _read_in_batches(reader, sources, limits, decoding):
            advance()
            if isinstance(result, Failure):
                failures += 1
                print_error(f"{result.source}: {result.reason}")
                continue
            if explanation is not None:
                _draw_explanation(reader, result.image, explanation)
            if annotation is not None:
                _draw_annotation(ReadPage(result.source, 1, result.image, result.reading), annotation)
            if record is not None:
                typer.echo(line_as_json(result.source, result.image, result.reading, record))
            else:
                typer.echo(_plain_line(result.source, result.reading.text, alone=len(sources) == 1))
    return failures


def _read_in_batches(
    reader: LineReader, sources: list[str], limits: ImageLimits, decoding: Decoding | None
) -> Iterator[LineResult | Failure]:
    """Read images in batches; yields the results in the order of the sources."""
    for first in range(0, len(sources), BATCH_SIZE_IMAGES):
        batch = [(source, open_source(source, limits)) for source in sources[first : first + BATCH_SIZE_IMAGES]]
        pixels = [image.pixels for _, image in batch if not isinstance(image, Failure)]
        readings = iter(reader.read(pixels, [decoding] * len(pixels)) if pixels else [])
        for source, image in batch:
            yield image if isinstance(image, Failure) else LineResult(source, image, next(readings))


def _plain_line(source: str, text: str, *, alone: bool) -> str:
    return text if alone else f"{displayed(source)}\t{text}"


def _draw_explanation(reader: LineReader, image: UprightImage, picture: Path) -> None:
    """Draw the greedy decoding of an image; exit with 1 if it cannot be drawn or written."""
    require_packages(["matplotlib"], "explain", "--explain")
    from linewise.model import Reader
    from linewise.model.explain import draw, explain

    assert isinstance(reader, Reader)
    try:
        draw(explain(reader, image.pixels), reader.config.alphabet, picture)
    except (OSError, ValueError) as error:  # a missing folder, an unknown suffix
        fail(f"{picture}: {error}", 1)


def _draw_annotation(read: ReadPage, picture: Path) -> None:
    """Draw what was read over a page; exit with 1 if the picture cannot be written."""
    from linewise.service.bulk import annotate

    path = annotate.page_path(picture, read.number)
    try:
        annotate.save(path, annotate.draw(read.image, read.page(with_characters=False)))
    except (OSError, ValueError) as error:  # a missing folder, an unknown suffix
        fail(f"{path}: {getattr(error, 'strerror', None) or error}", 1)


def print_auto(
    reader: AutoReader,
    sources: list[str],
    limits: ImageLimits,
    record: RecordOptions | None,
    annotation: Path | None = None,
) -> int:
    """Print each image as one line or as a page, and the pages of documents; returns the number of failures.

    ``record`` says what JSON objects hold; None prints plain text. ``annotation`` is the picture to draw, if any.
    Progress counts the pages of a single source, else the sources.
    """
    failures = 0
    alone = len(sources) == 1
    started: set[str] = set()
    with progress_bar(document_length(sources[0], limits) if alone else len(sources)) as advance:
        for read in reader.read(sources):
            if alone or read.source not in started:
                advance()
            started.add(read.source)
            if isinstance(read, Failure):
                failures += 1
                print_error(f"{read.source}: {read.reason}")
                continue
            if annotation is not None:
                _draw_annotation(read, annotation)
            if record is not None:
                typer.echo(as_json(read.source, read.number, read.page(**record.parts), record))
            else:
                for text in read.texts:
                    typer.echo(_plain_line(read.source, text, alone=alone))
    return failures


def print_pages(
    pages: PageReader,
    sources: list[str],
    limits: ImageLimits,
    record: RecordOptions | None,
    annotation: Path | None = None,
) -> int:
    """Print the rows of each page in reading order, or one JSON object per page; returns the number of failures.

    ``record``, ``annotation`` and the progress are those of ``print_auto``.
    """
    failures = 0
    alone = len(sources) == 1
    with progress_bar(document_length(sources[0], limits) if alone else len(sources)) as advance:
        for source in sources:
            for number, image in enumerate(document_pages(source, limits), start=1):
                if isinstance(image, Failure):
                    failures += 1
                    print_error(f"{image.source}: {image.reason}")
                    continue
                reading = pages.read(image.pixels)
                if annotation is not None:
                    _draw_annotation(ReadPage(source, number, image, reading), annotation)
                if record is not None:
                    typer.echo(page_as_json(source, number, image, reading, record))
                else:
                    _print_page(source, reading, alone=alone)
                if alone:
                    advance()
            if not alone:
                advance()
    return failures


def _print_page(source: str, reading: PageReading, *, alone: bool) -> None:
    for text in reading.row_texts:
        typer.echo(_plain_line(source, text, alone=alone))


def write_documents(
    documents: dict[str, Path | None],
    form: Form,
    reader: LineReader,
    pages: PageReader | AutoReader | None,
    limits: ImageLimits,
    decoding: Decoding | None = None,
    record: RecordOptions = TEXT_ONLY,
) -> int:
    """Write each source to its file, or to standard output for None; returns the number of failures.

    Each document is written as soon as it is read. A file that cannot be written ends the program with 1.
    """
    failures = 0
    with progress_bar(len(documents)) as advance:
        for source, path in documents.items():
            content = render_source(source, form, reader, pages, limits, decoding, record)
            advance()
            if isinstance(content, Failure):
                failures += 1
                print_error(f"{content.source}: {content.reason}")
            elif path is None:
                typer.echo(content, nl=False)
            else:
                _write_file(path, content)
    return failures


def _write_file(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        fail(f"{path}: {error.strerror or 'cannot be written'}", 1)


def write_rows(
    sources: list[str], output: Path, settings: Settings, reader: LineReader, decoding: Decoding | None
) -> None:
    """Read images in this process and add a row for each to a file."""
    from linewise.service.bulk.parquet import read_entries
    from linewise.service.bulk.writer import read_rows

    threads = settings.batch_limits.threads if str(reader.device) == "cpu" else 1

    def read_missing(sources: list[str], done: set[str]) -> Iterator[Row]:
        return read_rows(reader, read_entries(sources, done), settings.image_limits, decoding, threads)

    _add_rows(sources, output, read_missing)


def write_rows_on_ray(
    sources: list[str],
    output: Path,
    settings: Settings,
    decoding_arguments: DecodingArguments,
) -> None:
    """Read images on Ray and add a row for each to a file; exit with 1 or 2 if that is impossible."""
    from linewise.service.bulk.ray_data import open_ray_reader
    from linewise.service.bulk.writer import BulkError

    if "-" in sources:
        fail("--engine ray reads files: leave out -, standard input", 2)
    replicas = replicas_from_environment()
    try:
        with open_ray_reader(settings, replicas, decoding_arguments) as read_missing:
            _add_rows(sources, output, read_missing)
    except BulkError as error:
        fail(str(error), 1)


def _add_rows(sources: list[str], output: Path, read_missing: Callable[[list[str], set[str]], Iterator[Row]]) -> None:
    """Add a row for each image that has none yet, and print a summary to standard error.

    ``read_missing`` takes the sources and the identifiers that have rows; it yields the other rows in order. Of rows
    with the same identifier the first counts.
    """
    from linewise.service.bulk.parquet import count_entries, open_rows
    from linewise.service.bulk.writer import BulkError

    try:
        with open_rows(output) as file:
            known, added, failed = len(file.done), 0, 0
            with progress_bar(count_entries(sources, file.done)) as advance:
                for row in read_missing(sources, set(file.done)):
                    advance()
                    if row.id not in file.done:
                        file.add(row)
                        added += 1
                        failed += row.error is not None
    except (BulkError, OSError) as error:
        fail(str(error), 1)
    print_error(f"{added} rows added to {output}, {failed} of them with an error, {known} were there")

"""Reading of files as lines or as pages, whichever is likelier, many lines at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from linewise.service.bulk.sources import Failure, content

if TYPE_CHECKING:
    from linewise.model import Decoding, PageReader, PageReading, Reading
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.documents.layout import Page
    from linewise.service.documents.multipage import OpenedFile
    from linewise.service.inference.loading import LineReader

BATCH_SIZE_IMAGES = 16  # fills a batch of the network; larger ones only delay the first line


@dataclass(frozen=True)
class ReadPage:
    """A page of a source, numbered from 1, with its reading as one line or as a page."""

    source: str
    number: int
    image: UprightImage
    reading: Reading | PageReading

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts of the rows in reading order; the single text, which may be empty, of an image of one line."""
        from linewise.model import PageReading

        if isinstance(self.reading, PageReading):
            return self.reading.row_texts
        return (self.reading.text,)

    def page(self, *, with_words: bool = True, with_characters: bool = True) -> Page:
        """Convert the reading to a page of the document model."""
        from linewise.model import PageReading
        from linewise.service.documents.assembly import page_from_line, page_from_lines

        image, reading, turn = self.image, self.reading, self.reading.turn
        if isinstance(reading, PageReading):
            return page_from_lines(image, turn, reading, with_words=with_words, with_characters=with_characters)
        return page_from_line(image, turn, reading, with_words=with_words, with_characters=with_characters)


class AutoReader:
    """Reads files as lines, and as pages where that is not sure; ``decoding`` applies to each line."""

    def __init__(self, reader: LineReader, pages: PageReader, limits: ImageLimits, decoding: Decoding | None) -> None:
        self._reader, self._pages, self._limits, self._decoding = reader, pages, limits, decoding

    def read(self, sources: Iterable[str]) -> Iterator[ReadPage | Failure]:
        """Read the pages of each source, in order; a broken page of a document is a failure of its own."""
        remaining = iter(sources)
        while batch := list(islice(remaining, BATCH_SIZE_IMAGES)):
            files = [self._open(source) for source in batch]
            images = [file.line_image for file in files if not isinstance(file, Failure) and file.line_image]
            lines = iter(self._read_lines(images))
            for source, file in zip(batch, files, strict=True):
                if isinstance(file, Failure):
                    yield file
                elif file.line_image is None:
                    yield from self._read_document(source, file)
                else:
                    yield self._likelier(source, file, next(lines))

    def read_file(self, source: str, file: OpenedFile) -> Iterator[ReadPage | Failure]:
        """Read the pages of an opened file."""
        if file.line_image is None:
            yield from self._read_document(source, file)
        else:
            yield self._likelier(source, file, *self._read_lines([file.line_image]))

    def _open(self, source: str) -> OpenedFile | Failure:
        from linewise.service.documents.multipage import open_file
        from linewise.service.errors import ServiceError

        try:
            return open_file(content(source), self._limits)
        except ServiceError as error:
            return Failure(source, error.detail)
        except OSError as error:
            return Failure(source, (error.strerror or "cannot be opened") + ".")

    def _read_lines(self, images: Sequence[UprightImage]) -> Sequence[Reading]:
        pixels = [image.pixels for image in images]
        return self._reader.read(pixels, [self._decoding] * len(pixels)) if pixels else []

    def _read_document(self, source: str, file: OpenedFile) -> Iterator[ReadPage | Failure]:
        from linewise.service.documents.multipage import decode_page
        from linewise.service.errors import ServiceError

        for number in range(1, file.pages + 1):
            try:
                image = decode_page(file.data, number - 1, self._limits)
            except ServiceError as error:  # the other pages may be intact
                yield Failure(source if file.pages == 1 else f"{source}, page {number}", error.detail)
                continue
            yield ReadPage(source, number, image, self._pages.read(image.pixels, self._decoding))

    def _likelier(self, source: str, file: OpenedFile, line: Reading) -> ReadPage | Failure:
        from linewise.model import is_sure_line, likelier
        from linewise.service.errors import ServiceError

        assert file.line_image is not None
        if is_sure_line(file.line_image.pixels, line):
            return ReadPage(source, 1, file.line_image, line)
        try:
            image = file.page_image(self._limits)
        except ServiceError as error:
            return Failure(source, error.detail)
        choice = likelier(image.pixels, line, self._pages.read(image.pixels, self._decoding))
        return ReadPage(source, 1, file.line_image if choice is line else image, choice)

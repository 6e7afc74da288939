"""Recognition in this process."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from pydantic import ValidationError

from linewise.service.documents.assembly import page_from_line, page_from_lines
from linewise.service.documents.image import ImageLimits, decode
from linewise.service.documents.layout import Document, Page
from linewise.service.documents.multipage import OpenedFile, decode_page, open_file, page_count
from linewise.service.errors import ServiceError
from linewise.service.inference.loading import LineReader, PageFinder, load_page_finder, load_reader
from linewise.service.integrations.reading import Orientation, ReadingError, ReadOptions, orientation_of
from linewise.service.settings import Settings, explain

if TYPE_CHECKING:
    from linewise.model import Decoding, FoundLine, PageReading, PageSteps

ORIENTATION_MAX_LINES = 8  # as many as the page reader reads upside down


class LocalReader:
    """Read files with networks in this process, which are loaded for the first file.

    ``LINEWISE_*`` variables give the weights, the device and the limits of an image. Raises ``ReadingError`` for an
    invalid one.
    """

    def __init__(self) -> None:
        try:
            self._settings = Settings()
        except ValidationError as error:
            raise ReadingError(explain(error)) from None
        self._lock = threading.Lock()
        self._networks: tuple[LineReader, PageFinder] | None = None

    def read(self, data: bytes, options: ReadOptions) -> Document:
        """Read a file; see ``DocumentReader``."""
        reader, finder = self._load()
        limits = self._settings.image_limits
        try:
            decoding = reader.decoding(0, options.charset, options.charset_exclude, options.lexicon)
        except ValueError as error:
            raise ReadingError(str(error)) from None
        try:
            if options.mode == "line":
                image = decode(data, limits)
                (line,) = reader.read([image.pixels], [decoding])
                return Document((page_from_line(image, line.turn, line, with_characters=options.with_characters),))
            if options.mode == "auto" and options.pages is None:
                file = open_file(data, limits)
                if file.line_image is not None:
                    return Document((_read_likelier(reader, finder, file, decoding, options, limits),))
            pages = []
            numbers = range(page_count(data, limits.max_pages)) if options.pages is None else options.pages
            for number in numbers:
                image = decode_page(data, number, limits)
                reading = _finish(reader, finder.steps(image.pixels, finder.find(image.pixels)), decoding)
                pages.append(page_from_lines(image, reading.turn, reading, with_characters=options.with_characters))
        except ServiceError as error:
            raise ReadingError(error.detail) from None
        return Document(tuple(pages))

    def orientation(self, data: bytes) -> Orientation:
        """Read the longest lines only; see ``DocumentReader``."""
        reader, finder = self._load()
        try:
            image = decode_page(data, 0, self._settings.image_limits)
        except ServiceError as error:
            raise ReadingError(error.detail) from None
        longest = sorted(finder.find(image.pixels), key=_length, reverse=True)[:ORIENTATION_MAX_LINES]
        reading = _finish(reader, finder.steps(image.pixels, longest), None)
        return orientation_of(page_from_lines(image, reading.turn, reading))

    def check(self) -> None:
        """Do nothing: the settings are checked, and the networks are loaded for the first file."""

    def _load(self) -> tuple[LineReader, PageFinder]:
        """Load the networks once."""
        from linewise.model import CheckpointError

        with self._lock:
            if self._networks is None:
                try:
                    reader = load_reader(self._settings.model_spec)
                    finder = load_page_finder(reader)
                except (CheckpointError, ValueError) as error:
                    raise ReadingError(str(error)) from None
                assert finder is not None
                self._networks = reader, finder
            return self._networks


def _read_likelier(
    reader: LineReader,
    finder: PageFinder,
    file: OpenedFile,
    decoding: Decoding | None,
    options: ReadOptions,
    limits: ImageLimits,
) -> Page:
    """Read an image as one line and, where that is not sure, as a page as well; keep the likelier reading."""
    from linewise.model import PageReading, is_sure_line, likelier

    image = file.line_image
    assert image is not None
    (line,) = reader.read([image.pixels], [decoding])
    if is_sure_line(image.pixels, line):
        return page_from_line(image, line.turn, line, with_characters=options.with_characters)
    large = file.page_image(limits)
    page = _finish(reader, finder.steps(large.pixels, finder.find(large.pixels)), decoding)
    choice = likelier(large.pixels, line, page)
    if isinstance(choice, PageReading):
        return page_from_lines(large, choice.turn, choice, with_characters=options.with_characters)
    return page_from_line(image, line.turn, line, with_characters=options.with_characters)


def _finish(reader: LineReader, steps: PageSteps, decoding: Decoding | None) -> PageReading:
    """Read the lines that the steps of a page yield, and return the page's reading."""
    try:
        crops = next(steps)
        while True:
            crops = steps.send(reader.read(crops, [decoding] * len(crops)) if crops else [])
    except StopIteration as end:
        reading: PageReading = end.value
        return reading


def _length(line: FoundLine) -> float:
    """Longer side of a detected line, in pixels."""
    a, b, c, _ = line.quad.tolist()
    return max(math.dist(a, b), math.dist(b, c))

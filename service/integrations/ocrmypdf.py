"""Plugin of OCRmyPDF: the OCR engine ``linewise``, which keeps the pages and adds their words.

OCRmyPDF finds it by the entry point of the group ``ocrmypdf``. Its interface: ``ocrmypdf.pluginspec``.
"""

from __future__ import annotations

import io
import logging
import math
import threading
from argparse import ArgumentParser
from pathlib import Path
from shutil import which
from types import ModuleType
from typing import Any

from ocrmypdf import BoundingBox, OcrClass, OcrElement, hookimpl
from ocrmypdf.exceptions import ExitCodeException, MissingDependencyError
from ocrmypdf.models.ocr_element import Baseline
from ocrmypdf.pluginspec import OcrEngine, OrientationConfidence
from PIL import Image

import linewise
from linewise.service.cpu import share_cores
from linewise.service.documents.layout import Line, Page, Polygon, bounding_box
from linewise.service.integrations import open_document_reader
from linewise.service.integrations.reading import DocumentReader, ReadingError, ReadOptions, as_stored
from linewise.service.integrations.tesseract_options import LANGUAGES
from linewise.service.integrations.tesseract_output import ORIENTATION_CONFIDENCE_SCALE

NAME = "linewise"
TESSERACT_PLUGIN = "ocrmypdf.builtin_plugins.tesseract_ocr"

# A page above these limits is read as a smaller or compressed copy: a service refuses larger bodies and images.
MAX_PIXELS = 40_000_000
MAX_BYTES = 15 * 2**20
JPEG_QUALITY = 95

log = logging.getLogger(__name__)


class ReadingFailed(ExitCodeException):
    """A page that cannot be read; OCRmyPDF prints the message and exits with 15."""


@hookimpl
def initialize(plugin_manager: Any) -> None:
    """Without a tesseract binary, take the check for it out of OCRmyPDF's own plugin.

    The plugin itself stays, since OCRmyPDF needs its options.
    """
    original = plugin_manager.get_plugin(TESSERACT_PLUGIN)
    if which("tesseract") is not None or original is None:
        return
    plugin_manager.unregister(original)
    remaining = ModuleType(TESSERACT_PLUGIN)
    vars(remaining).update({name: value for name, value in vars(original).items() if name != "check_options"})
    plugin_manager.register(remaining)


@hookimpl
def add_options(parser: ArgumentParser) -> None:
    """Add the engine to the choices of ``--ocr-engine``."""
    for action in parser._actions:
        if action.dest == "ocr_engine" and action.choices is not None and NAME not in action.choices:
            action.choices = [*action.choices, NAME]


@hookimpl
def check_options(options: Any) -> None:
    """Check the tesseract binary or the service before any page is touched."""
    if not _is_chosen(options):
        if which("tesseract") is None and options.ocr_engine == "tesseract":
            raise MissingDependencyError("--ocr-engine tesseract needs the program tesseract, which is not installed")
        return
    if options.ocr_engine == "auto":
        log.info("Tesseract is not installed: Linewise reads the pages")
    if options.pdf_renderer not in ("auto", "fpdf2"):
        raise MissingDependencyError(f"--ocr-engine linewise needs --pdf-renderer fpdf2, not {options.pdf_renderer}")
    try:
        open_document_reader().check()
    except ReadingError as error:
        raise MissingDependencyError(f"Linewise: {error}") from None


@hookimpl(tryfirst=True)
def get_ocr_engine(options: Any) -> OcrEngine | None:
    """Return the engine if it is asked for, or if any engine will do and Tesseract is not installed."""
    return LinewiseEngine() if _is_chosen(options) else None


def _is_chosen(options: Any) -> bool:
    name = getattr(options, "ocr_engine", "auto") if options is not None else "auto"
    return name == NAME or (name == "auto" and which("tesseract") is None)


class _Readers:
    """The reader of this process, opened by the worker that needs it first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: DocumentReader | None = None

    def get(self, options: Any) -> DocumentReader:
        """Return the reader; the workers share the cores."""
        with self._lock:
            if self._reader is None:
                share_cores(options.jobs or 1)
                self._reader = open_document_reader()
            return self._reader


_readers = _Readers()


class LinewiseEngine(OcrEngine):
    """Recognition of page images for OCRmyPDF, which calls it from several threads."""

    @staticmethod
    def version() -> str:
        """Return the version of the package."""
        return linewise.__version__

    @staticmethod
    def creator_tag(options: Any) -> str:
        """Return the name for the metadata of the PDF."""
        return f"Linewise {linewise.__version__}"

    def __str__(self) -> str:
        return f"Linewise {linewise.__version__}"

    @staticmethod
    def languages(options: Any) -> set[str]:
        """Return the codes that ``--language`` may name; all languages are read at once."""
        return set(LANGUAGES) - {"osd"}

    @staticmethod
    def get_orientation(input_file: Path, options: Any) -> OrientationConfidence:
        """Return the clockwise rotation under which a page lies, as Tesseract counts it."""
        try:
            orientation = _readers.get(options).orientation(_Picture(input_file).data)
        except ReadingError as error:
            raise ReadingFailed(f"Linewise: {error}") from None
        return OrientationConfidence(-orientation.turn % 360, ORIENTATION_CONFIDENCE_SCALE * orientation.confidence)

    @staticmethod
    def get_deskew(input_file: Path, options: Any) -> float:
        """Return the counterclockwise rotation, in degrees, that makes the lines horizontal."""
        try:
            return _readers.get(options).orientation(_Picture(input_file).data).skew
        except ReadingError as error:
            raise ReadingFailed(f"Linewise: {error}") from None

    @staticmethod
    def supports_generate_ocr() -> bool:
        """Return that ``generate_ocr`` is there."""
        return True

    @staticmethod
    def generate_ocr(input_file: Path, options: Any, page_number: int = 0) -> tuple[OcrElement, str]:
        """Read the image of a page; return its lines and words as a tree, and its text."""
        picture = _Picture(input_file)
        try:
            (page,) = _readers.get(options).read(picture.data, ReadOptions(mode="page")).pages
        except ReadingError as error:
            raise ReadingFailed(f"Linewise: page {page_number + 1}: {error}") from None
        page = as_stored(page)
        scale = picture.width / page.width
        tree = OcrElement(
            OcrClass.PAGE,
            bbox=BoundingBox(0, 0, picture.width, picture.height),
            dpi=picture.dpi,
            page_number=page_number,
            children=[_line_element(line, page, scale) for line in page.printed_lines],
        )
        return tree, page.text.replace("\t", " ") + "\n"

    @staticmethod
    def generate_hocr(input_file: Path, output_hocr: Path, output_text: Path, options: Any) -> None:
        """Refuse: OCRmyPDF uses ``generate_ocr``."""
        raise NotImplementedError("Linewise needs --pdf-renderer fpdf2")

    @staticmethod
    def generate_pdf(input_file: Path, output_pdf: Path, output_text: Path, options: Any) -> None:
        """Refuse: OCRmyPDF uses ``generate_ocr``."""
        raise NotImplementedError("Linewise needs --pdf-renderer fpdf2")


class _Picture:
    """The image of a page: size in pixels, resolution, and the bytes to read."""

    def __init__(self, file: Path) -> None:
        with Image.open(file) as image:
            self.width, self.height = image.size
            self.dpi = float(image.info.get("dpi", (72.0, 72.0))[0])
            divisor = math.ceil(math.sqrt(self.width * self.height / MAX_PIXELS))
            if divisor == 1 and file.stat().st_size <= MAX_BYTES:
                self.data = file.read_bytes()
                return
            jpeg = io.BytesIO()
            image.convert("L").reduce(divisor).save(jpeg, "JPEG", quality=JPEG_QUALITY)
            self.data = jpeg.getvalue()


def _line_element(line: Line, page: Page, scale: float) -> OcrElement:
    """Element of a line: box, baseline or angle, and words."""
    (x, y), (end_x, end_y) = line.baseline
    dx, dy = end_x - x, end_y - y
    angle, baseline = 0.0, None
    if dx <= abs(dy):
        angle = -math.degrees(math.atan2(dy, dx)) % 360  # counterclockwise
    else:
        left, _, _, bottom = bounding_box(line.polygon, page.width, page.height)
        slope = dy / dx
        baseline = Baseline(slope, (y + slope * (left - x) - bottom) * scale)
    words = [
        OcrElement(OcrClass.WORD, _box(word.polygon, page, scale), text=word.text, confidence=word.confidence)
        for word in line.words
    ]
    return OcrElement(
        OcrClass.LINE, _box(line.polygon, page, scale), baseline=baseline, textangle=angle or None, children=words
    )


def _box(polygon: Polygon, page: Page, scale: float) -> BoundingBox:
    return BoundingBox(*(scale * side for side in bounding_box(polygon, page.width, page.height)))

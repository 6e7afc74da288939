"""Other engines behind one face, for whole pages: a picture in, its lines in reading order out, two threads."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from linewise.model.evaluation.pages import ReadsPages
from linewise.model.page.geometry import Quad
from linewise.model.page.reading_order import reading_order
from linewise.model.page.results import PageLine, PageReading
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.results import Reading

THREADS = 2
# Tesseract wants letters 30 pixels high: pages whose shorter side has fewer pixels are doubled for it.
DOUBLED = 1200


def _reading(texts: Sequence[str], quads: Sequence[Quad]) -> PageReading:
    rows = reading_order(quads)
    return PageReading(
        tuple(
            PageLine(Reading(texts[i], 1.0, 1.0, ()), quads[i], row)
            for row, several in enumerate(rows)
            for i in several
        )
    )


class _RapidOcr:
    """RapidOCR as it comes, PP-OCRv6 small: detection, orientation, recognition; our reading order."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR  # type: ignore[import-not-found]

        threads = {"EngineConfig.onnxruntime.intra_op_num_threads": THREADS}
        self._engine: Any = RapidOCR(params={**threads, "Global.log_level": "error"})

    def read(self, page: Image) -> PageReading:
        colours = page if page.ndim == 3 else cv2.cvtColor(page, cv2.COLOR_GRAY2RGB)
        found = self._engine(np.ascontiguousarray(colours[:, :, ::-1]))
        boxes = [] if found.boxes is None else [np.asarray(box, np.float32) for box in found.boxes]
        return _reading(found.txts or (), boxes)


class _Tesseract:
    """Tesseract inside this process, its LSTM for English, one column of text of any sizes; its own reading order."""

    def __init__(self) -> None:
        import tesserocr  # type: ignore[import-not-found]

        folders = sorted(Path("/usr/share").glob("tesseract-ocr/*/tessdata"))
        self._levels: Any = tesserocr.RIL
        self._iterate: Any = tesserocr.iterate_level
        self._engine: Any = tesserocr.PyTessBaseAPI(
            path=f"{folders[-1]}/" if folders else "", lang="eng", psm=tesserocr.PSM.SINGLE_COLUMN,
            oem=tesserocr.OEM.LSTM_ONLY,
        )  # fmt: skip

    def read(self, page: Image) -> PageReading:
        from PIL import Image as Pictures

        factor = 2 if min(page.shape[:2]) < DOUBLED else 1
        larger = cv2.resize(page, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        self._engine.SetImage(Pictures.fromarray(larger))
        self._engine.Recognize()
        level = self._levels.TEXTLINE
        lines: list[PageLine] = []
        iterator = self._engine.GetIterator()
        for line in self._iterate(iterator, level) if iterator else ():
            text, box = line.GetUTF8Text(level).strip(), line.BoundingBox(level)
            if text and box:
                left, top, right, bottom = (side / factor for side in box)
                quad = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
                lines.append(PageLine(Reading(text, 1.0, 1.0, ()), quad, len(lines)))
        return PageReading(tuple(lines))


ENGINES: dict[str, Callable[[], ReadsPages]] = {"rapidocr": _RapidOcr, "tesserocr": _Tesseract}


def page_engines(names: Sequence[str]) -> dict[str, ReadsPages]:
    """Engines by the names of their packages.

    Raises:
        ValueError: an unknown engine, or one that is not installed.
    """
    found: dict[str, ReadsPages] = {}
    for name in names:
        package = "tesserocr" if name == "tesseract" else name
        if package not in ENGINES:
            raise ValueError(f"unknown engine {name}: one of {', '.join(ENGINES)}")
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{name} is not installed: pip install 'linewise[rivals]'")
        found[name] = ENGINES[package]()
    return found

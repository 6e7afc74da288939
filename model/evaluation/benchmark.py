"""Benchmarks of the recogniser: by width and batch size, by number of threads, and against other engines.

Engines are compared by CPU seconds of the whole process, all threads together, so that more cores are no
advantage. They take turns on the same images, so that other load on the machine slows all of them alike.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from linewise.model.evaluation.baselines import LineEngine, open_line_baseline
from linewise.model.evaluation.datasets import LabelledImage, is_correct, open_image
from linewise.model.network.crnn import multiply_accumulates
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.reader import Reader

BATCH_SIZES = (1, 8, 32)
THROUGHPUT_BATCH_SIZE = 64
WARMUP_BATCHES = 2  # kernels are chosen and memory is allocated at the first batches of a shape


@dataclass(frozen=True)
class BatchSpeed:
    """Speed of batches of `batch` images of `width` pixels: wall-clock percentiles per batch, and images per second.

    The fields are those of `linewise bench --json`.
    """

    width: int
    batch: int
    million_macs: float
    p50_ms: float
    p95_ms: float
    images_per_s: float


@dataclass(frozen=True)
class EngineSpeed:
    """Speed and accuracy of one engine over all rounds: median CPU ms per image, `right` in percent.

    `ratio` is the median over rounds of the first engine's time by this engine's, `least` and `most` are its
    extremes. The fields are those of `linewise bench --json`.
    """

    engine: str
    cpu_ms: float
    ratio: float
    least: float
    most: float
    right: float


@dataclass(frozen=True)
class ThreadScaling:
    """Images per second of one thread and of `threads` together.

    `factor` is the median over rounds of their ratio, `least` and `most` are its extremes. The fields are
    those of `linewise bench --json`.
    """

    threads: int
    alone_per_s: float
    together_per_s: float
    factor: float
    least: float
    most: float


def measure_batches(reader: Reader, widths: Sequence[int], repeats: int = 20) -> list[BatchSpeed]:
    """Measure the reader, from arrays to text, at each width in pixels and each of `BATCH_SIZES`."""
    speeds = []
    height = reader.config.height
    for width in widths:
        image = np.random.default_rng(width).integers(0, 256, (height, width), dtype=np.uint8)
        macs = multiply_accumulates(reader.network, width) / 1e6
        for batch in BATCH_SIZES:
            for _ in range(WARMUP_BATCHES):
                reader.read([image] * batch)
            times = sorted(_wall_seconds(reader, [image] * batch) for _ in range(repeats))
            p50, p95 = times[len(times) // 2], times[math.ceil(0.95 * len(times)) - 1]
            speeds.append(BatchSpeed(width, batch, macs, 1e3 * p50, 1e3 * p95, batch / p50))
    return speeds


def _wall_seconds(reader: Reader, images: list[Image]) -> float:
    started = time.perf_counter()
    reader.read(images)
    return time.perf_counter() - started


def measure_threads(reader: Reader, images: Sequence[Image], threads: int, rounds: int) -> ThreadScaling:
    """Measure one thread and `threads` threads on the same images, in turns.

    The machine must have an idle core for each thread, and the network must run single-threaded in each:
    set OMP_NUM_THREADS before torch is imported.
    """
    batches = _batches(images)

    def seconds(count: int) -> float:
        def read_share(number: int) -> None:
            for batch in batches[number::count]:
                reader.read(batch)

        started = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(read_share, range(count)))
        return time.perf_counter() - started

    rows = [(seconds(1), seconds(threads)) for _ in range(rounds + 1)][1:]  # the first round warms up
    factors = [alone / together for alone, together in rows]
    return ThreadScaling(
        threads,
        len(images) / statistics.median(alone for alone, _ in rows),
        len(images) / statistics.median(together for _, together in rows),
        statistics.median(factors),
        min(factors),
        max(factors),
    )


def _batches(images: Sequence[Image]) -> list[Sequence[Image]]:
    return [images[first : first + THROUGHPUT_BATCH_SIZE] for first in range(0, len(images), THROUGHPUT_BATCH_SIZE)]


def matrix_rate(dtype: torch.dtype, device: torch.device | str, size: int = 1024, repeats: int = 10) -> float:
    """Rate of matrix multiplication in GMAC/s: the upper bound of any network on this device."""
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    multiply = torch._int_mm if dtype is torch.int8 else torch.matmul  # matmul would sum int8 in int8
    best = math.inf
    for _ in range(repeats):
        started = time.perf_counter()
        float(multiply(left, right)[0, 0])  # waits for an accelerator
        best = min(best, time.perf_counter() - started)
    return size**3 / best / 1e9


def open_engines(reader: Reader, baselines: Sequence[str]) -> dict[str, LineEngine]:
    """Open the baselines, then the reader with single images and with batches, all by title.

    Raises:
        ValueError: an unknown baseline, or one that is not installed.
    """
    engines = dict(open_line_baseline(name) for name in baselines)
    engines["linewise, one by one"] = lambda images: [reader.read([image])[0].text for image in images]
    engines[f"linewise, batches of {THROUGHPUT_BATCH_SIZE}"] = lambda images: [
        reading.text for batch in _batches(images) for reading in reader.read(batch)
    ]
    return engines


def compare_engines(
    engines: dict[str, LineEngine],
    samples: Sequence[LabelledImage],
    dataset: str,
    rounds: int,
    on_progress: Callable[[str], object] = print,
) -> list[EngineSpeed]:
    """Measure engines in turns on the same images; ratios are relative to the first engine.

    `dataset` is the name of the samples' dataset, by whose metric readings are correct. `on_progress` is called
    with one line of text after each round.

    Raises:
        DatasetError: an image cannot be opened.
    """
    images = [_as_rgb(open_image(sample.path)) for sample in samples]
    times: dict[str, list[float]] = {name: [] for name in engines}
    accuracies: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, engine in engines.items():
            started = time.process_time()
            texts = engine(images)
            seconds = time.process_time() - started
            correct = sum(is_correct(dataset, s.label, text) for s, text in zip(samples, texts, strict=True))
            accuracies[name] = 100 * correct / len(samples)
            if number:  # the first round warms up
                times[name].append(seconds)
        on_progress(f"round {number} of {rounds}")
    reference = times[next(iter(engines))]
    results = []
    for name, seconds_by_round in times.items():
        ratios = [other / own for other, own in zip(reference, seconds_by_round, strict=True)]
        cpu_ms = 1e3 * statistics.median(seconds_by_round) / len(images)
        results.append(EngineSpeed(name, cpu_ms, statistics.median(ratios), min(ratios), max(ratios), accuracies[name]))
    return results


def _as_rgb(image: Image) -> Image:
    return image if image.ndim == 3 else np.ascontiguousarray(np.repeat(image[:, :, None], 3, axis=2))


def batches_table(speeds: Sequence[BatchSpeed], rate: float) -> str:
    """Speeds as a Markdown table, with their share of the machine's matrix `rate` in GMAC/s."""
    lines = ["| width | batch | MMAC | p50 ms | p95 ms | images/s | of the matrix rate |"]
    lines.append("|---:|---:|---:|---:|---:|---:|---:|")
    for s in speeds:
        share = 100 * s.million_macs * s.images_per_s / (1000 * rate)
        lines.append(
            f"| {s.width} | {s.batch} | {s.million_macs:.0f} | {s.p50_ms:.2f} | {s.p95_ms:.2f} |"
            f" {s.images_per_s:.0f} | {share:.0f} % |"
        )
    return "\n".join(lines)


def engines_table(results: Sequence[EngineSpeed]) -> str:
    """Comparison of engines as a Markdown table."""
    lines = ["| engine | CPU ms an image | times as fast | right, % |", "|---|---:|---:|---:|"]
    for r in results:
        ratio = f"{r.ratio:.2f} ({r.least:.2f} to {r.most:.2f})"
        lines.append(f"| {r.engine} | {r.cpu_ms:.2f} | {ratio} | {r.right:.1f} |")
    return "\n".join(lines)


def plot_batches(speeds: Sequence[BatchSpeed], path: Path) -> None:
    """Plot images per second over the width and over the batch size, into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for batch in sorted({s.batch for s in speeds}):
        rows = [s for s in speeds if s.batch == batch]
        left.loglog([s.width for s in rows], [s.images_per_s for s in rows], marker=".", label=f"batch {batch}")
    widths = sorted({s.width for s in speeds})
    for width in widths[:: max(1, len(widths) // 6)]:
        rows = [s for s in speeds if s.width == width]
        right.loglog([s.batch for s in rows], [s.images_per_s for s in rows], marker=".", label=f"{width} pixels")
    left.set(xlabel="width in pixels at the model's height", ylabel="images per second")
    right.set(xlabel="images in a batch")
    for axis in (left, right):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)

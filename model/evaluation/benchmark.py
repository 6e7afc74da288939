"""How fast the recogniser is, by width and batch size, and beside other engines on the same pictures.

Times are CPU seconds of the whole process, all its threads together, so that an engine that takes more
cores gains nothing by it; engines take turns, so that a busy machine slows all of them alike.
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

from linewise.model.evaluation.baselines import Engine, open_rival
from linewise.model.evaluation.recognition import AGREES, Sample, open_image, own_metric
from linewise.model.network.crnn import multiply_accumulates
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.reader import Reader

BATCH_SIZES = (1, 8, 32)
THROUGHPUT_BATCH = 64


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


@dataclass(frozen=True)
class Scaling:
    """Images per second with one thread and with `threads`; `factor` is the median of the rounds' ratios."""

    threads: int
    alone_per_s: float
    together_per_s: float
    factor: float
    least: float
    most: float


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
    chosen = dict(open_rival(name) for name in rivals)
    chosen["linewise, one by one"] = lambda images: [reader.read([image])[0].text for image in images]
    chosen[f"linewise, batches of {THROUGHPUT_BATCH}"] = lambda images: [
        reading.text for batch in _lists(images) for reading in reader.read(batch)
    ]
    return chosen


def _lists(images: Sequence[Image]) -> list[Sequence[Image]]:
    return [images[first : first + THROUGHPUT_BATCH] for first in range(0, len(images), THROUGHPUT_BATCH)]


def scaling(reader: Reader, images: Sequence[Image], threads: int, rounds: int) -> Scaling:
    """The same images read by one thread and by several at once, in turns; for idle cores, one a thread.

    The network itself must be held to one thread each, by OMP_NUM_THREADS, before torch is imported.
    """
    lists = _lists(images)

    def seconds(count: int) -> float:
        def work(number: int) -> None:
            for batch in lists[number::count]:
                reader.read(batch)

        started = time.perf_counter()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(work, range(count)))
        return time.perf_counter() - started

    rows = [(seconds(1), seconds(threads)) for _ in range(rounds + 1)][1:]  # the first makes the kernels
    factors = [alone / together for alone, together in rows]
    return Scaling(
        threads,
        len(images) / statistics.median(alone for alone, _ in rows),
        len(images) / statistics.median(together for _, together in rows),
        statistics.median(factors),
        min(factors),
        max(factors),
    )


def matrix_rate(dtype: torch.dtype, device: torch.device | str, size: int = 1024, repeats: int = 10) -> float:
    """Multiplications of matrices that the machine does, in GMAC/s: what a network could reach at best."""
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    multiply = torch._int_mm if dtype is torch.int8 else torch.matmul  # sums of bytes do not fit into bytes
    best = math.inf
    for _ in range(repeats):
        started = time.perf_counter()
        float(multiply(left, right)[0, 0])  # waits for an accelerator
        best = min(best, time.perf_counter() - started)
    return size**3 / best / 1e9


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


def speed_table(speeds: Sequence[Speed], rate: float) -> str:
    """The speeds as a Markdown table, with the share of the machine's matrix `rate` in GMAC/s that they reach."""
    lines = ["| width | batch | MMAC | p50 ms | p95 ms | images/s | of the matrix rate |"]
    lines.append("|---:|---:|---:|---:|---:|---:|---:|")
    for s in speeds:
        share = 100 * s.million_macs * s.images_per_s / (1000 * rate)
        lines.append(
            f"| {s.width} | {s.batch} | {s.million_macs:.0f} | {s.p50_ms:.2f} | {s.p95_ms:.2f} |"
            f" {s.images_per_s:.0f} | {share:.0f} % |"
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
    """Draws images per second over the width, and over the batch size, into a PNG."""
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
    figure.savefig(picture, dpi=110)

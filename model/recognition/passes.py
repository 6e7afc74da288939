"""Passes of the network: over-long lines cut into windows, windows grouped into batches, logits stitched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import FRAME_WIDTH_PX, ModelConfig
from linewise.model.recognition import preprocess
from linewise.model.recognition.preprocess import Image, scaled_width
from linewise.model.recognition.rotation import rotations

Array = NDArray[np.float32]

# Neighbouring windows share this many pixels. Logits are stitched in the middle of the overlap, where both windows
# have seen at least a word's length of context.
WINDOW_OVERLAP_PX = 256

# Pixels of network input in one round, which bounds memory: on a CPU 128 words of 128 x 32 pixels.
# A GPU runs faster with larger rounds.
CPU_ROUND_PIXELS = 128 * 128 * 32
GPU_ROUND_PIXELS = 8 * CPU_ROUND_PIXELS

# Pixels of network input in one pass on a CPU: 20 words, or one line of the largest width. Larger passes are no faster.
CPU_PASS_PIXELS = 20 * 128 * 32

# Images of at most so many rounds are scaled before the first of these rounds, so that memory does not grow with the
# number of images in a call.
ROUNDS_PER_GROUP = 8


@dataclass(frozen=True)
class PassLimits:
    """Most pixels of network input in one pass, and in the passes of one round.

    A round is the list of passes that the network computes in one call. With `powers_of_two` the number of windows in
    a pass is one, because oneDNN makes and keeps a kernel for each shape that it meets.
    """

    pass_pixels: int
    round_pixels: int
    powers_of_two: bool = False


def runner_limits(device_type: str, precision: str) -> PassLimits:
    """Limits on a device by its torch type, such as `cpu` or `cuda`, in a precision."""
    if device_type == "cpu":
        return PassLimits(CPU_PASS_PIXELS, CPU_ROUND_PIXELS, powers_of_two=precision != "float32")
    return PassLimits(GPU_ROUND_PIXELS, GPU_ROUND_PIXELS, powers_of_two=True)


def compute_logits(
    network: Callable[[list[Array]], Sequence[Array]], config: ModelConfig, images: Sequence[Image], limits: PassLimits
) -> Iterator[tuple[list[int], Array]]:
    """Yield indexes of some images and their logits `(B, T, C)`, a bounded batch at a time, until all are done.

    `network` computes the logits of a list of batches `(B, C, H, W)`.

    Raises:
        ValueError: as `preprocess.check_image`.
    """
    for image in images:
        preprocess.check_image(image)
    collector = LogitsCollector()
    for group in plan_groups(config, [image.shape[:2] for image in images], limits):
        windows: list[Window] = []
        for index in group:
            windows += cut_windows(config, index, preprocess.scale(config, images[index]))
        for planned in plan_passes(windows, limits):
            batches = [preprocess.normalise([window.pixels for window in batch]) for batch in planned]
            for batch, logits in zip(planned, network(batches), strict=True):
                yield from collector.add(batch, logits)


def width_bucket(config: ModelConfig, height: int, width: int) -> int:
    """Width in pixels, at the model's height, that dominates the cost of an image of this size.

    Images of one bucket share passes. For an image that is also read rotated it is the width of the rotated view.
    """
    if len(rotations(height, width)) > 1:
        height, width = width, height
    return scaled_width(config, height, width)


def plan_groups(config: ModelConfig, sizes: Sequence[tuple[int, int]], limits: PassLimits) -> Iterator[list[int]]:
    """Indexes of images of `(height, width)` pixels, in groups that are scaled and read one after the other.

    Scaled widths ascend; images of one width keep their order. A single image may exceed the limits.
    """
    widths = [scaled_width(config, *size) for size in sizes]
    group: list[int] = []
    room = limit = ROUNDS_PER_GROUP * limits.round_pixels
    for index in sorted(range(len(widths)), key=widths.__getitem__):
        pixels = config.height * widths[index]
        if group and pixels > room:
            yield group
            group, room = [], limit
        group.append(index)
        room -= pixels
    if group:
        yield group


def plan_passes(windows: Sequence[Window], limits: PassLimits) -> Iterator[list[list[Window]]]:
    """Group windows into passes of one width each, and yield the passes of one round at a time.

    Widths ascend; windows of one width keep their order. A single window may exceed the limits.
    """
    by_width: defaultdict[int, list[Window]] = defaultdict(list)
    for window in windows:
        by_width[window.pixels.shape[1]].append(window)
    passes: list[list[Window]] = []
    room = limits.round_pixels
    for _, group in sorted(by_width.items()):
        height, width = group[0].pixels.shape[:2]
        size = height * width
        first = 0
        for count in pass_sizes(len(group), limits.pass_pixels // size, powers_of_two=limits.powers_of_two):
            if passes and count * size > room:
                yield passes
                passes, room = [], limits.round_pixels
            passes.append(group[first : first + count])
            first += count
            room -= count * size
    if passes:
        yield passes


def pass_sizes(count: int, largest: int, *, powers_of_two: bool) -> list[int]:
    """Split `count` windows of one width into passes of at most `largest` windows (at least 1)."""
    sizes = []
    while count > 0:
        size = min(count, max(1, largest))
        sizes.append(1 << (size.bit_length() - 1) if powers_of_two else size)
        count -= sizes[-1]
    return sizes


@dataclass(frozen=True)
class Window:
    """One window of a scaled line.

    `image` is the index of the line in its batch, `start` the window's first column, `pixels` uint8
    `(config.height, W, config.input_channels)`, `line_width` the width in pixels of the whole scaled line.
    """

    image: int
    start: int
    pixels: Image
    line_width: int

    @property
    def holds_whole_line(self) -> bool:
        """Whether the line has no other window."""
        return bool(self.pixels.shape[1] == self.line_width)

    @property
    def ends_line(self) -> bool:
        """Whether this is the last window of its line."""
        return bool(self.start + self.pixels.shape[1] == self.line_width)


def cut_windows(config: ModelConfig, image: int, scaled: Image) -> list[Window]:
    """Overlapping windows of the scaled image with index `image`; one unless it is over-long."""
    longest, width = config.widths[-1], scaled.shape[1]
    if width <= longest:
        return [Window(image, 0, scaled, width)]
    starts = [*range(0, width - longest, longest - WINDOW_OVERLAP_PX), width - longest]
    return [Window(image, start, scaled[:, start : start + longest], width) for start in starts]


class LogitsCollector:
    """Collects the logits of windows until their lines are complete.

    The windows of a line must arrive in order.
    """

    def __init__(self) -> None:
        self._incomplete: dict[int, list[tuple[int, Array]]] = {}

    def add(self, windows: Sequence[Window], logits: Array) -> Iterator[tuple[list[int], Array]]:
        """Take in one pass with its logits `(B, T, C)`.

        Yields the indexes of images that the pass completes, with their logits `(B', T', C)`.
        """
        whole = [row for row, window in enumerate(windows) if window.holds_whole_line]
        if whole:
            yield [windows[row].image for row in whole], logits[whole]
        for row, window in enumerate(windows):
            if window.holds_whole_line:
                continue
            parts = self._incomplete.setdefault(window.image, [])
            parts.append((window.start // FRAME_WIDTH_PX, logits[row]))
            if window.ends_line:
                yield [window.image], stitch_logits(self._incomplete.pop(window.image))[None]


def stitch_logits(parts: Sequence[tuple[int, Array]]) -> Array:
    """Stitch overlapping `(first frame, logits (T', C))` parts, in order, into the logits `(T, C)` of a line.

    Each overlap is cut in its middle, where both parts have the most context.
    """
    kept = []
    begin = 0
    for index, (start, logits) in enumerate(parts):
        end = start + len(logits)
        if index + 1 < len(parts):
            end = (end + parts[index + 1][0]) // 2
        kept.append(logits[begin - start : end - start])
        begin = end
    return np.concatenate(kept)

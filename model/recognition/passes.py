"""Batch planning: which windows go through the network together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from linewise.model.network.config import ModelConfig
from linewise.model.recognition.preprocess import scaled_width
from linewise.model.recognition.rotation import rotations

if TYPE_CHECKING:  # a parent process asks for widths and needs no torch
    from linewise.model.recognition.windows import Window

# Pixels of network input in one round, which bounds memory: on a CPU 128 words of 128 x 32 pixels.
# A GPU runs faster with larger rounds.
CPU_ROUND_PIXELS = 128 * 128 * 32
GPU_ROUND_PIXELS = 8 * CPU_ROUND_PIXELS

# Pixels of network input in one pass on a CPU: 20 words, or one line of the largest width. Larger passes are no faster
# and meet more shapes, each of which costs oneDNN a kernel.
CPU_PASS_PIXELS = 20 * 128 * 32

# Images of at most so many rounds are scaled before the first of these rounds, so that memory does not grow with the
# number of images in a call.
ROUNDS_PER_GROUP = 8


@dataclass(frozen=True)
class PassLimits:
    """Most pixels of network input in one pass, and in the passes of one round.

    A round is the list of passes that the network computes in one call.
    """

    pass_pixels: int
    round_pixels: int


def device_limits(device_type: str) -> PassLimits:
    """Limits of a device by its torch type, such as `cpu` or `cuda`."""
    if device_type == "cpu":
        return PassLimits(CPU_PASS_PIXELS, CPU_ROUND_PIXELS)
    return PassLimits(GPU_ROUND_PIXELS, GPU_ROUND_PIXELS)


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


def plan_passes(windows: Sequence["Window"], limits: PassLimits) -> Iterator[list[list["Window"]]]:
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
        for count in pass_sizes(len(group), limits.pass_pixels // size):
            if passes and count * size > room:
                yield passes
                passes, room = [], limits.round_pixels
            passes.append(group[first : first + count])
            first += count
            room -= count * size
    if passes:
        yield passes


def pass_sizes(count: int, largest: int) -> list[int]:
    """Split `count` windows of one width into passes of at most `largest` windows (at least 1).

    Every size is a power of two, because oneDNN makes and keeps a kernel for each shape that it meets.
    """
    sizes = []
    while count > 0:
        sizes.append(1 << (min(count, max(1, largest)).bit_length() - 1))
        count -= sizes[-1]
    return sizes

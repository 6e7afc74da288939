"""Windows of over-long lines: cutting scaled images and stitching their logits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import FRAME_WIDTH_PX, ModelConfig
from linewise.model.recognition.preprocess import Image

Array = NDArray[np.float32]

# Neighbouring windows share this many pixels. Logits are stitched in the middle of the overlap, where both windows
# have seen at least a word's length of context.
WINDOW_OVERLAP_PX = 256


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

"""From a picture of a whole page to its lines with their texts, in reading order."""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from model.fused import fold_normalisation, multiplies_bfloat16
from model.page.detector import MULTIPLE, STRIDE, Detector, load_detector
from model.page.lines import FoundLine, Map, Quad, find, picture, size, span
from model.page.order import reading_order
from model.preprocess import Image, grey, to_tensor
from model.reader import Reader, load, turned
from model.reading import Character, Reading

# The shorter side of a page, in pixels, above which it is made smaller before its lines are looked
# for: 200 dpi of a sheet of A4 become 140, at which small print is still 10 pixels high.
SHORTER = 1152

# Median height of the lines found, in pixels of the smaller page, below which they were too small to be
# told apart, and the shorter side at which they are looked for once more.
SMALL, FINER = 12, 2 * SHORTER

# Rows that the detector sees at once, so that memory does not grow with the length of a receipt, and
# rows that two such bands share: the network sees some 200 pixels around.
BAND, OVERLAP = 2048, 256

# Lines whose readings tell whether a page stands on its head, and the mean confidence above which
# nobody needs to ask.
ASKED, UPRIGHT = 8, 0.5


@dataclass(frozen=True)
class PageLine:
    """A line of a page: what was read, where, and in which row of the page.

    `quad` are its corners `(4, 2)` in pixels of the upright page, clockwise from where its text begins
    on top. Lines of one `row` stand side by side, as the cells of a table do.
    """

    reading: Reading
    quad: Quad
    row: int

    def place(self, character: Character) -> Quad:
        """The corners `(4, 2)` of one of its characters, in pixels as `quad`."""
        return span(self.quad, character.start, character.end, self.reading.turn)


@dataclass(frozen=True)
class PageReading:
    """What a page says, in reading order. `turn` is the clockwise turn in degrees that made the page upright."""

    lines: tuple[PageLine, ...]
    turn: int = 0

    @property
    def text(self) -> str:
        """The lines in reading order, each on a line of its own."""
        return "\n".join(line.reading.text for line in self.lines)


# Asks for the readings of pictures of lines, any number of times, and ends with the page's.
PageSteps = Generator[list[Image], Sequence[Reading], PageReading]


class PageReader:
    """Finds the lines of a page with a detector and reads them with a recogniser."""

    def __init__(self, detector: Detector, reader: Reader, revision: str = "unsaved") -> None:
        """Take over `detector`, which is changed: its normalisations are folded into its convolutions."""
        self.reader, self.revision = reader, revision
        self._dtype = torch.bfloat16 if multiplies_bfloat16(reader.device) else torch.float32
        self._detector = fold_normalisation(detector.eval()).to(reader.device, self._dtype)
        convert_conv2d_weight_memory_format(self._detector, torch.channels_last)

    def find(self, page: Image) -> list[FoundLine]:
        """The lines of a uint8 page, `(H, W)` grey or `(H, W, 3)` RGB, in pixels of it, in no order.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        plain = grey(page)
        scale = min(1.0, SHORTER / min(plain.shape))
        found = self._find(plain, scale)
        if scale < 1 and found and float(np.median([min(size(f.quad)) for f in found])) * scale < SMALL:
            found = self._find(plain, min(1.0, FINER / min(plain.shape)))
        return found

    def _find(self, plain: Image, scale: float) -> list[FoundLine]:
        """The lines of a grey page, in its pixels, looked for in a copy `scale` times its size."""
        if scale < 1:
            plain = np.asarray(cv2.resize(plain, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        found = find(self._probability(plain))
        return [FoundLine(np.asarray((f.quad + 0.5) / scale - 0.5, np.float32), f.score) for f in found]

    def _probability(self, plain: Image) -> Map:
        """Kernel probabilities of a grey page, in bands if it is long; a wide page is looked at on its side."""
        if plain.shape[1] > max(BAND, plain.shape[0]):
            return np.ascontiguousarray(self._probability(np.ascontiguousarray(plain.T)).T)
        starts = [0] if plain.shape[0] <= BAND else [*range(0, plain.shape[0] - OVERLAP, BAND - OVERLAP)]
        parts = []
        for number, start in enumerate(starts):
            cells = self._forward(plain[start : start + BAND])
            first = OVERLAP // 2 // STRIDE if number else 0
            last = len(cells) if number == len(starts) - 1 else (BAND - OVERLAP // 2) // STRIDE
            parts.append(cells[first:last])
        return np.concatenate(parts)

    def _forward(self, plain: Image) -> Map:
        height, width = plain.shape
        below, right = -height % MULTIPLE, -width % MULTIPLE
        padded = cv2.copyMakeBorder(plain, 0, below, 0, right, cv2.BORDER_REPLICATE)
        batch = to_tensor([np.asarray(padded, np.uint8)], self.reader.device).to(self._dtype)
        with torch.inference_mode():
            logits = self._detector(batch.contiguous(memory_format=torch.channels_last))
        cells = logits[0, 0, : -(-height // STRIDE), : -(-width // STRIDE)].float().sigmoid()
        return np.asarray(cells.cpu().numpy(), np.float32)

    def read(self, page: Image) -> PageReading:
        """The text of a uint8 page, `(H, W)` grey or `(H, W, 3)` RGB, which may lie on its side or on its head.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        steps = self.steps(page)
        try:
            pictures = next(steps)
            while True:
                pictures = steps.send(self.reader.read(pictures))
        except StopIteration as end:
            reading: PageReading = end.value
            return reading

    def steps(self, page: Image, found: Sequence[FoundLine] | None = None) -> PageSteps:
        """As `read`, for callers who have lines read elsewhere: yields pictures of lines, and is sent their readings.

        `found` are the lines where the caller has looked for them already.
        """
        quads = [one.quad for one in (self.find(page) if found is None else found)]
        turn = 0
        if _on_side(quads):  # and looked at again: the detector knows lines that lie best
            page, turn = turned(page, 90), 90
            quads = [one.quad for one in self.find(page)]
        readings = yield [picture(page, quad) for quad in quads]
        longest = sorted(range(len(quads)), key=lambda i: -size(quads[i])[0])[:ASKED]
        sure = sum(readings[i].confidence for i in longest)
        if sure < UPRIGHT * len(longest):
            inverted = yield [turned(picture(page, quads[i]), 180) for i in longest]
            if sum(reading.confidence for reading in inverted) > sure:
                last = np.array(page.shape[1::-1], np.float32) - 1
                quads = [np.roll(last - quad, 2, 0) for quad in quads]
                page, turn = turned(page, 180), turn + 180
                readings = yield [picture(page, quad) for quad in quads]
        rows = reading_order([quad for quad, reading in zip(quads, readings, strict=True) if reading.text])
        kept = [i for i, reading in enumerate(readings) if reading.text]
        lines = [
            PageLine(readings[kept[index]], quads[kept[index]], number)
            for number, row in enumerate(rows)
            for index in row
        ]
        return PageReading(tuple(lines), turn)


def _on_side(quads: Sequence[Quad]) -> bool:
    """Whether most of the text runs up or down."""
    sizes = [size(quad) for quad in quads]
    upright = sum(width for width, height in sizes if width >= 2 * height)
    return sum(height for width, height in sizes if height >= 2 * width) > upright


def load_page_reader(detector: str | os.PathLike[str] | None = None, reader: Reader | None = None) -> PageReader:
    """A page reader with the detector of a file, by default the shipped one, and `reader`, by default `model.load()`.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another kind.
    """
    network, revision = load_detector(detector)
    return PageReader(network, reader or load(), revision)

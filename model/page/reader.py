"""Page reader: from an image of a whole page to its lines, their texts and their order."""

import os

import cv2
import numpy as np
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from linewise.model.page.detector import SIDE_MULTIPLE_PX, Detector, load_detector
from linewise.model.page.pipeline import Pages
from linewise.model.page.postprocess import MAP_STRIDE_PX, ProbabilityMap, find_lines
from linewise.model.page.results import FoundLine, PageReading
from linewise.model.recognition.preprocess import Image, to_tensor
from linewise.model.recognition.reader import Reader, load
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.precision import supports_bfloat16
from linewise.model.runtime.process import ProcessBound

# Long pages are detected in overlapping bands, so that memory does not grow with the length of a receipt.
# The network's receptive field is about 200 pixels.
BAND_HEIGHT_PX = 2048
BAND_OVERLAP_PX = 256


class PageReader(Pages, ProcessBound):
    """Reads pages with a detector for their lines and a recogniser for their texts.

    Each process loads its own, as for a `Reader`.
    """

    def __init__(self, detector: Detector, reader: Reader, revision: str = "unsaved") -> None:
        """Take ownership of `detector`: its normalisations are folded into its convolutions in place."""
        Pages.__init__(self, self.detect)
        ProcessBound.__init__(self)
        self.reader, self.revision = reader, revision
        self._dtype = torch.bfloat16 if supports_bfloat16(reader.device) else torch.float32
        self._detector = fold_normalisation(detector.eval()).to(reader.device, self._dtype)
        convert_conv2d_weight_memory_format(self._detector, torch.channels_last)

    def find(self, page: Image) -> list[FoundLine]:
        """Detect the lines of a page: see `Pages.find`."""
        self._check_process()
        return super().find(page)

    def detect(self, plain: Image) -> list[FoundLine]:
        """Detect the lines of a uint8 grey page `(H, W)` at its own size, in no order."""
        self._check_process()
        return find_lines(self._probabilities(plain))

    def _probabilities(self, plain: Image) -> ProbabilityMap:
        """Kernel probabilities of a grey page, computed in bands along its longer side."""
        if plain.shape[1] > max(BAND_HEIGHT_PX, plain.shape[0]):
            return np.ascontiguousarray(self._probabilities(np.ascontiguousarray(plain.T)).T)
        step = BAND_HEIGHT_PX - BAND_OVERLAP_PX
        starts = [0] if plain.shape[0] <= BAND_HEIGHT_PX else [*range(0, plain.shape[0] - BAND_OVERLAP_PX, step)]
        parts = []
        for number, start in enumerate(starts):
            cells = self._forward(plain[start : start + BAND_HEIGHT_PX])
            first = BAND_OVERLAP_PX // 2 // MAP_STRIDE_PX if number else 0
            is_last = number == len(starts) - 1
            end = len(cells) if is_last else (BAND_HEIGHT_PX - BAND_OVERLAP_PX // 2) // MAP_STRIDE_PX
            parts.append(cells[first:end])
        return np.concatenate(parts)

    def _forward(self, plain: Image) -> ProbabilityMap:
        height, width = plain.shape
        below, right = -height % SIDE_MULTIPLE_PX, -width % SIDE_MULTIPLE_PX
        padded = cv2.copyMakeBorder(plain, 0, below, 0, right, cv2.BORDER_REPLICATE)
        batch = to_tensor([np.asarray(padded, np.uint8)], self.reader.device).to(self._dtype)
        with torch.inference_mode():
            logits = self._detector(batch.contiguous(memory_format=torch.channels_last))
        cells = logits[0, 0, : -(-height // MAP_STRIDE_PX), : -(-width // MAP_STRIDE_PX)].float().sigmoid()
        return np.asarray(cells.cpu().numpy(), np.float32)

    def read(self, page: Image) -> PageReading:
        """Read a uint8 page, `(H, W)` grey or `(H, W, 3)` RGB, rotated by any multiple of 90 degrees.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        steps = self.steps(page)
        try:
            crops = next(steps)
            while True:
                crops = steps.send(self.reader.read(crops))
        except StopIteration as end:
            reading: PageReading = end.value
            return reading


def load_page_reader(detector: str | os.PathLike[str] | None = None, reader: Reader | None = None) -> PageReader:
    """Load a detector, by default the shipped one, and combine it with `reader`.

    `reader` defaults to `model.load()`.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another kind.
    """
    network, revision = load_detector(detector)
    return PageReader(network, reader or load(), revision)

"""From a picture of a whole page to its lines with their texts, in reading order."""

import os

import cv2
import numpy as np
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from linewise.model.page.detector import MULTIPLE, Detector, load_detector
from linewise.model.page.pipeline import PageReading, Pages
from linewise.model.page.postprocess import STRIDE, FoundLine, Map, find
from linewise.model.recognition.preprocess import Image, to_tensor
from linewise.model.recognition.reader import Reader, load
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.precision import supports_bfloat16

# Rows that the detector sees at once, so that memory does not grow with the length of a receipt, and
# rows that two such bands share: the network sees some 200 pixels around.
BAND, OVERLAP = 2048, 256


class PageReader(Pages):
    """Finds the lines of a page with a detector and reads them with a recogniser."""

    def __init__(self, detector: Detector, reader: Reader, revision: str = "unsaved") -> None:
        """Take over `detector`, which is changed: its normalisations are folded into its convolutions."""
        super().__init__(self.detect)
        self.reader, self.revision = reader, revision
        self._dtype = torch.bfloat16 if supports_bfloat16(reader.device) else torch.float32
        self._detector = fold_normalisation(detector.eval()).to(reader.device, self._dtype)
        convert_conv2d_weight_memory_format(self._detector, torch.channels_last)

    def detect(self, plain: Image) -> list[FoundLine]:
        """The lines of a uint8 grey page `(H, W)` as large as it is, in no order."""
        return find(self._probability(plain))

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


def load_page_reader(detector: str | os.PathLike[str] | None = None, reader: Reader | None = None) -> PageReader:
    """A page reader with the detector of a file, by default the shipped one, and `reader`, by default `model.load()`.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another kind.
    """
    network, revision = load_detector(detector)
    return PageReader(network, reader or load(), revision)

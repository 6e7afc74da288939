"""Page reader: from an image of a whole page to its lines, their texts and their order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from linewise.model.decoding.options import Decoding
from linewise.model.network.checkpoint import NetworkWeights
from linewise.model.network.config import DetectorConfig
from linewise.model.page.detector import kernel_probabilities, load_detector_weights
from linewise.model.page.line_or_page import is_sure_line, likelier
from linewise.model.page.pipeline import Pages
from linewise.model.page.postprocess import find_lines
from linewise.model.page.results import FoundLine, PageReading
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.reader import Reader, load
from linewise.model.recognition.results import Reading
from linewise.model.runtime.model_runner import detector_runner
from linewise.model.runtime.process import ProcessBound

if TYPE_CHECKING:  # reading in float32 on a CPU needs no torch
    from linewise.model.network.detector import Detector


class PageReader(Pages, ProcessBound):
    """Reads pages with a detector for their lines and a recogniser for their texts.

    Each process loads its own, as for a `Reader`.
    """

    def __init__(
        self, detector: NetworkWeights[DetectorConfig] | Detector, reader: Reader, revision: str = "unsaved"
    ) -> None:
        """Take over `detector`: a network of torch may be modified, its normalisations folded into its convolutions.

        It runs on the device of `reader`.
        """
        Pages.__init__(self, self.detect)
        ProcessBound.__init__(self)
        self.reader, self.revision = reader, revision
        self._network = detector_runner(detector, reader.device, reader.precision)

    def find(self, page: Image) -> list[FoundLine]:
        """Detect the lines of a page: see `Pages.find`."""
        self._check_process()
        return super().find(page)

    def detect(self, plain: Image) -> list[FoundLine]:
        """Detect the lines of a uint8 grey page `(H, W)` at its own size, in no order."""
        self._check_process()
        return find_lines(kernel_probabilities(self._network, plain))

    def read(self, page: Image, decoding: Decoding | None = None) -> PageReading:
        """Read a uint8 page, `(H, W)` grey or `(H, W, 3)` RGB, rotated by any multiple of 90 degrees.

        `decoding`, from `Reader.decoding`, applies to each line.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        steps = self.steps(page)
        try:
            crops = next(steps)
            while True:
                crops = steps.send(self.reader.read(crops, [decoding] * len(crops)))
        except StopIteration as end:
            reading: PageReading = end.value
            return reading

    def read_auto(self, image: Image, decoding: Decoding | None = None) -> Reading | PageReading:
        """Read a uint8 image, `(H, W)` or `(H, W, 3)`, as one line or as a page, whichever is likelier.

        Lines are detected only where the reading as one line is not sure. `decoding` is as in `read`.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        (line,) = self.reader.read([image], [decoding])
        return line if is_sure_line(image, line) else likelier(image, line, self.read(image, decoding))


def load_page_reader(detector: str | os.PathLike[str] | None = None, reader: Reader | None = None) -> PageReader:
    """Load a detector, by default the shipped one, and combine it with `reader`.

    `reader` defaults to `model.load()`.

    Raises:
        CheckpointError: a checkpoint is missing, damaged or of another kind.
    """
    network, revision = load_detector_weights(detector)
    return PageReader(network, reader or load(), revision)

"""Export of the recogniser's network as an ONNX file that other programs run."""

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from linewise.model.network.checkpoint import DEFAULT_PATH, load_weights
from linewise.model.recognition import preprocess
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.reader import Reader
from linewise.model.runtime.onnx.recogniser import recogniser_graph

# Largest difference of a logit from the reader's. Logits span some 30 units; float32 sums in another order differ by
# less than 1e-4 of them.
PARITY_TOLERANCE = 1e-3

SAMPLE_TEXTS = ("A", "12.50", "TOTAL EUR 12.50", "The quick brown fox jumps over the lazy dog, 1234567890 times")
MAX_BATCH = 3  # of the batches that are compared


class ParityError(RuntimeError):
    """The exported file computes other logits than the reader."""


@dataclass(frozen=True)
class Exported:
    """An exported file: its size in bytes, and its largest logit difference from the reader over `samples` pictures."""

    size: int
    samples: int
    difference: float


def export_onnx(path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> Exported:
    """Write the network of a checkpoint, by default the shipped one, as an ONNX file and compare it with the reader.

    Input `images` is float32 `(batch, channels, height, width)` of any batch size and width, output `logits` float32
    `(batch, width / 4, classes)`. The file's metadata hold the configuration with the alphabet (`linewise.config`)
    and the hash of the checkpoint (`linewise.revision`). A file that fails the comparison is removed.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        FileExistsError: there is a file at `path`.
        OSError: the file cannot be written.
        ParityError: the file does not compute what the reader computes.
    """
    path = Path(path)
    with path.open("xb") as file:  # first: loading takes longer than finding out that the file cannot be written
        try:
            network, revision = load_weights(DEFAULT_PATH if weights is None else weights)
            graph = recogniser_graph(network)
            graph.metadata_props.add(key="linewise.revision", value=revision)
            file.write(graph.SerializeToString())
            file.flush()
            return _compare(path, Reader(network, revision, "cpu", "float32"))
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _compare(path: Path, reader: Reader) -> Exported:
    """Compare the file with the reader on drawn lines, alone and in batches. Raises `ParityError`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    samples = [_draw(text) for text in SAMPLE_TEXTS]
    worst = 0.0
    for number, (sample, expected) in enumerate(zip(samples, reader.logit_arrays(samples), strict=True)):
        images = preprocess.normalise([preprocess.scale(reader.config, sample)])
        batch = np.repeat(images, 1 + number % MAX_BATCH, axis=0)
        logits: NDArray[np.float32] = session.run(None, {"images": batch})[0]
        difference = float(np.abs(logits - expected).max())
        if not difference <= PARITY_TOLERANCE:  # also for NaN
            raise ParityError(f"the logits differ by {difference:.3g} from the reader's, in {SAMPLE_TEXTS[number]!r}")
        worst = max(worst, difference)
    return Exported(path.stat().st_size, len(samples), worst)


def _draw(text: str) -> Image:
    """Draw a line of text, uint8 `(40, W, 3)`, dark blue on light yellow: both input channels then carry something."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
    picture = np.full((40, width + 16, 3), (250, 245, 210), np.uint8)
    return np.asarray(cv2.putText(picture, text, (8, 29), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20, 30, 90), 2), np.uint8)

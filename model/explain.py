"""Explanations: an image with its characters, their runners-up and the posteriors of each frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.charset import BLANK, STRAIGHT
from linewise.model.recognition.augmented_views import apply_view
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.reader import Reader
from linewise.model.recognition.results import Character, Reading, rescale_spans
from linewise.model.recognition.rotation import rotated

BLANK_SYMBOL = "∅"
MIN_SHOWN_POSTERIOR = 0.02  # of a runner-up


@dataclass(frozen=True)
class RunnerUp:
    """Second most probable class in a character's most confident frame, with its posterior in [0, 1].

    `text` is `BLANK_SYMBOL` for the blank.
    """

    text: str
    confidence: float


@dataclass(frozen=True)
class Explanation:
    """A reading with its runners-up and the posteriors behind it.

    `image` is the image as it was read: rotated, and in the augmented view that supports the text
    most. The spans of `reading` are in its pixels.
    `posteriors` are `(T, C)` in [0, 1] with class 0 the blank; frame t spans the pixels
    `edges[t]` to `edges[t + 1]` of the image's width.
    """

    image: Image
    reading: Reading
    runners_up: tuple[RunnerUp, ...]
    posteriors: NDArray[np.float32]
    edges: NDArray[np.float64]


def explain(reader: Reader, image: Image) -> Explanation:
    """Read one image and explain the result.

    Raises:
        ValueError: as `Reader.read`.
    """
    (reading,) = reader.read([image], typographic_quotes=True)
    upright = rotated(image, reading.turn)
    view = apply_view(upright, reading.look)
    reading = rescale_spans(reading, view.shape[1] / upright.shape[1])
    posteriors, edges = reader.posteriors(view)
    names = [BLANK_SYMBOL, *reader.config.alphabet]
    runners_up = tuple(_runner_up(character, posteriors, edges, names) for character in reading.characters)
    return Explanation(view, reading, runners_up, posteriors, edges)


def _runner_up(
    character: Character, posteriors: NDArray[np.float32], edges: NDArray[np.float64], names: list[str]
) -> RunnerUp:
    """Runner-up of a character; `names` are the classes, the blank first."""
    label = names.index(character.text, 1)
    middles = (edges[:-1] + edges[1:]) / 2
    within = np.flatnonzero((middles >= character.start) & (middles <= character.end))
    if not within.size:  # narrower than half a frame: take the nearest one
        within = np.array([np.abs(middles - (character.start + character.end) / 2).argmin()])
    frame = posteriors[within[posteriors[within, label].argmax()]].copy()
    frame[label] = -1.0
    second = int(frame.argmax())
    return RunnerUp(names[second], float(frame[second]))


def draw(explanation: Explanation, alphabet: str, picture: Path) -> None:
    """Write a PNG of the image, its characters with confidences and runners-up, and the posteriors.

    The rows of the posteriors are the relevant classes, the columns the network's frames; darker is more probable.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    image, reading = explanation.image, explanation.reading
    width = image.shape[1]
    names = [BLANK_SYMBOL, *alphabet]
    characters = {names.index(character.text, 1) for character in reading.characters}
    runners_up = {names.index(r.text) for r in explanation.runners_up if r.confidence >= MIN_SHOWN_POSTERIOR}
    shown = sorted({BLANK} | characters | runners_up)
    inches = min(60.0, max(6.0, 0.42 * max(1, len(reading.characters)), width / 100))
    image_inches = min(inches * image.shape[0] / width, 4.0)
    figure = Figure(figsize=(inches, image_inches + 2.0 + 0.22 * len(shown)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(image_inches + 1.0, 0.22 * len(shown) + 0.6))
    above.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, width, image.shape[0], 0), aspect="auto")
    for character, second in zip(reading.characters, explanation.runners_up, strict=True):
        _mark(above, character, second, image.shape[0])
    above.set_title(f"{reading.text.translate(STRAIGHT)!r}  {reading.confidence:.1%}", pad=34, parse_math=False)
    above.set_yticks([])
    below.pcolormesh(explanation.edges, np.arange(len(shown) + 1), explanation.posteriors[:, shown].T,
                     cmap="Blues", vmin=0, vmax=1)  # fmt: skip
    below.set_yticks(np.arange(len(shown)) + 0.5, ["space" if names[i] == " " else names[i] for i in shown], fontsize=8)
    for label in below.get_yticklabels():
        label.set_parse_math(False)
    below.set_xlabel(f"pixels ({BLANK_SYMBOL} = no character here)")
    figure.savefig(picture, dpi=110)


def _mark(axis: Any, character: Character, second: RunnerUp, height: int) -> None:
    """Mark a character's span, its text and percentage above, those of its runner-up below."""
    colour = "tab:green" if character.confidence >= 0.9 else "tab:orange" if character.confidence >= 0.5 else "tab:red"
    axis.axvspan(character.start, character.end, color=colour, alpha=0.25, linewidth=0)
    middle = (character.start + character.end) / 2
    common = {"textcoords": "offset points", "ha": "center", "annotation_clip": False, "parse_math": False}
    axis.annotate(_label(character.text, character.confidence), (middle, 0), (0, 3), va="bottom", fontsize=8,
                  color=colour, **common)  # fmt: skip
    if second.confidence >= MIN_SHOWN_POSTERIOR:
        axis.annotate(_label(second.text, second.confidence), (middle, height), (0, -3), va="top", fontsize=7,
                      color="grey", **common)  # fmt: skip


def _label(text: str, confidence: float) -> str:
    return f"{'␣' if text == ' ' else text}\n{100 * confidence:.0f}"

"""Why a reading came out: the picture with its characters, and under it what the network held probable where."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.charset import BLANK, STRAIGHT
from linewise.model.recognition.augmented_views import seen, spread
from linewise.model.recognition.preprocess import Image, turned
from linewise.model.recognition.reader import Reader
from linewise.model.recognition.results import Character, Reading

NOTHING = "∅"  # how the blank is written
VISIBLE = 0.02  # posterior from which a runner-up is worth showing


@dataclass(frozen=True)
class RunnerUp:
    """What stood second where a character was surest, and its posterior in [0, 1]; `NOTHING` for the blank."""

    text: str
    confidence: float


@dataclass(frozen=True)
class Explanation:
    """A reading with each character's runner-up, and the posteriors it came from.

    `image` is the picture as it was read: turned if its line lay on its side, as
    `recognition.augmented_views` changed it if a second look supports the text most;
    the characters of `reading` are in its pixels.
    `posteriors` are `(T, C)` in [0, 1] with class 0 the blank; frame t lies between the pixels
    `edges[t]` and `edges[t + 1]` of the picture's width.
    """

    image: Image
    reading: Reading
    runners_up: tuple[RunnerUp, ...]
    posteriors: NDArray[np.float32]
    edges: NDArray[np.float64]


def explain(reader: Reader, image: Image) -> Explanation:
    """The reading of one image, as `Reader.read` gives it, with what stands behind it.

    Raises:
        ValueError: an array that `Reader.read` refuses.
    """
    (reading,) = reader.read([image], typographic_quotes=True)
    image = turned(image, reading.turn)
    view = seen(image, reading.look)
    image, reading = view, spread(reading, view.shape[1] / image.shape[1])
    posteriors, edges = reader.posteriors(image)
    alphabet = [NOTHING, *reader.config.alphabet]
    runners_up = tuple(_runner_up(one, posteriors, edges, alphabet) for one in reading.characters)
    return Explanation(image, reading, runners_up, posteriors, edges)


def _runner_up(
    character: Character, posteriors: NDArray[np.float32], edges: NDArray[np.float64], alphabet: list[str]
) -> RunnerUp:
    label = alphabet.index(character.text, 1)
    middles = (edges[:-1] + edges[1:]) / 2
    within = np.flatnonzero((middles >= character.start) & (middles <= character.end))
    if not within.size:  # narrower than half a frame: the frame nearest to it
        within = np.array([np.abs(middles - (character.start + character.end) / 2).argmin()])
    surest = posteriors[within[posteriors[within, label].argmax()]].copy()
    surest[label] = -1.0
    second = int(surest.argmax())
    return RunnerUp(alphabet[second], float(surest[second]))


def draw(explanation: Explanation, alphabet: str, picture: Path) -> None:
    """Writes a PNG: the picture, each character over its span with its confidence and runner-up, and the alignment.

    The alignment's rows are the classes that matter, its columns the network's frames; the darker, the
    more probable. Raises OSError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    image, reading = explanation.image, explanation.reading
    width = image.shape[1]
    names = [NOTHING, *alphabet]
    shown = sorted({BLANK, *(names.index(c.text, 1) for c in reading.characters),
                    *(names.index(r.text) for r in explanation.runners_up if r.confidence >= VISIBLE)})  # fmt: skip
    inches = min(60.0, max(6.0, 0.42 * max(1, len(reading.characters)), width / 100))
    tall = inches * image.shape[0] / width
    figure = Figure(figsize=(inches, min(tall, 4.0) + 2.0 + 0.22 * len(shown)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(min(tall, 4.0) + 1.0, 0.22 * len(shown) + 0.6))
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
    below.set_xlabel(f"pixels ({NOTHING} = no character here)")
    figure.savefig(picture, dpi=110)


def _mark(axis: Any, character: Character, second: RunnerUp, height: int) -> None:
    """The character's span, its name and percentage above it, those of its runner-up below."""
    colour = "tab:green" if character.confidence >= 0.9 else "tab:orange" if character.confidence >= 0.5 else "tab:red"
    axis.axvspan(character.start, character.end, color=colour, alpha=0.25, linewidth=0)
    middle = (character.start + character.end) / 2
    common = {"textcoords": "offset points", "ha": "center", "annotation_clip": False, "parse_math": False}
    axis.annotate(_named(character.text, character.confidence), (middle, 0), (0, 3), va="bottom", fontsize=8,
                  color=colour, **common)  # fmt: skip
    if second.confidence >= VISIBLE:
        axis.annotate(_named(second.text, second.confidence), (middle, height), (0, -3), va="top", fontsize=7,
                      color="grey", **common)  # fmt: skip


def _named(text: str, confidence: float) -> str:
    return f"{'␣' if text == ' ' else text}\n{100 * confidence:.0f}"

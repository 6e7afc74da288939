"""CTC decoding: greedy for a batch, with the place and confidence of each character, and n-best by beam search.

After Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with
Recurrent Neural Networks" (ICML 2006).
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model.charset import BLANK

# The forward algorithm needs frames x characters of memory; a longer line is cut at blanks into
# pieces of at most so many frames, whose probabilities are multiplied. 1024 frames are two windows.
LONGEST_PIECE = 1024

# Per frame, the beam search tries the classes above this posterior: at 1e-3, an alignment through
# a less likely class would need a thousand times the evidence elsewhere to matter.
LEAST_POSTERIOR = 1e-3


@dataclass(frozen=True)
class Decoded:
    """One row of a batch, decoded.

    `ids` are class ids without blanks; `spans` are half-open `(first, last + 1)` frames, and
    `confidences` the largest posterior within each span; `confidence` is the probability of `ids`.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    confidences: tuple[float, ...]
    confidence: float


def greedy(logits: torch.Tensor, temperature: float = 1.0) -> list[Decoded]:
    """Decode each row by its best class per frame.

    `logits` are float `(B, T, C)` with class 0 the blank, `temperature` divides them before any
    confidence is taken. The confidence of a row is the CTC probability of its decoded string, the
    sum over all alignments, in [0, 1]; for an empty string the product of the blank's posteriors.
    """
    rows, frames, _ = logits.shape
    if rows == 0:
        return []
    log_probs = (logits.float() / temperature).log_softmax(dim=-1)  # (B, T, C)
    best, classes = log_probs.max(dim=-1)  # (B, T) each
    runs = _runs(classes.cpu().numpy(), best.exp().cpu().numpy())
    if frames <= LONGEST_PIECE:
        totals = string_log_probs(log_probs, [[run.label for run in row] for row in runs])
    else:
        totals = [_long_log_prob(scores, row) for scores, row in zip(log_probs, runs, strict=True)]
    return [
        Decoded(
            tuple(run.label for run in row),
            tuple((run.start, run.end) for run in row),
            tuple(run.confidence for run in row),
            min(1.0, float(np.exp(total))),
        )
        for row, total in zip(runs, totals, strict=True)
    ]


def string_log_probs(log_probs: torch.Tensor, strings: list[list[int]]) -> list[float]:
    """Natural logarithm of the CTC probability of one string of class ids per row of `(B, T, C)`.

    A string that has no alignment within T frames gets minus infinity.
    """
    rows, frames, _ = log_probs.shape
    device = log_probs.device
    flat = torch.tensor([label for string in strings for label in string], dtype=torch.long, device=device)
    lengths = torch.tensor([len(string) for string in strings], dtype=torch.long)
    losses = functional.ctc_loss(
        log_probs.transpose(0, 1),  # (T, B, C)
        flat,
        torch.full((rows,), frames, dtype=torch.long),
        lengths,
        blank=BLANK,
        reduction="none",
    )
    return [-float(loss) for loss in losses.cpu()]


@dataclass(frozen=True)
class Candidate:
    """A string of class ids without blanks, and its CTC probability."""

    ids: tuple[int, ...]
    confidence: float


def beam(logits: torch.Tensor, temperature: float = 1.0, *, width: int = 16, best: int = 5) -> list[Candidate]:
    """The most probable strings of one row `(T, C)` of logits, at most `best`, the likeliest first.

    Prefix beam search (Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition
    using Bi-Directional Recurrent DNNs", 2014) with `width` prefixes. The confidences are exact
    sums over all alignments and comparable with those of `greedy`.

    Raises:
        ValueError: `width` or `best` is below 1.
    """
    if width < 1 or best < 1:
        raise ValueError("a beam needs at least one prefix and one answer")
    log_probs = (logits.float() / temperature).log_softmax(dim=-1)  # (T, C)
    beams: _Beams = {(): (1.0, 0.0)}
    for posteriors in log_probs.exp().double().cpu().numpy():
        beams = _extended(beams, posteriors, width)
    strings = [list(prefix) for prefix in beams]
    totals = string_log_probs(log_probs.expand(len(strings), *log_probs.shape), strings)
    found = (Candidate(ids, min(1.0, float(np.exp(total)))) for ids, total in zip(beams, totals, strict=True))
    return sorted(found, key=lambda candidate: -candidate.confidence)[:best]


# By prefix: probability of its alignments that end in a blank, and of those that end in its last character.
_Beams = dict[tuple[int, ...], tuple[float, float]]


def _extended(beams: _Beams, posteriors: NDArray[np.float64], width: int) -> _Beams:
    """The best `width` prefixes after one more frame, scaled so that they sum to 1."""
    likely = [int(label) for label in np.flatnonzero(posteriors > LEAST_POSTERIOR) if label != BLANK]
    in_blank: defaultdict[tuple[int, ...], float] = defaultdict(float)
    in_character: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for prefix, (blank, character) in beams.items():
        in_blank[prefix] += (blank + character) * float(posteriors[BLANK])
        if prefix:
            in_character[prefix] += character * float(posteriors[prefix[-1]])
        for label in likely:
            # A character doubles only across a blank; without one it is the same character, longer.
            before = blank if prefix and prefix[-1] == label else blank + character
            in_character[(*prefix, label)] += before * float(posteriors[label])
    sums = {prefix: in_blank[prefix] + in_character[prefix] for prefix in {**in_blank, **in_character}}
    kept = heapq.nlargest(width, sums, key=sums.__getitem__)
    total = sum(sums[prefix] for prefix in kept) or 1.0
    return {prefix: (in_blank[prefix] / total, in_character[prefix] / total) for prefix in kept}


@dataclass(frozen=True)
class _Run:
    """Neighbouring frames with one best class, not the blank."""

    label: int
    start: int
    end: int
    confidence: float


def _runs(classes: NDArray[np.int64], best: NDArray[np.float32]) -> list[list[_Run]]:
    """The runs of each row of `(B, T)` best classes and their posteriors."""
    rows, frames = classes.shape
    fresh = np.ones((rows, frames), bool)
    fresh[:, 1:] = classes[:, 1:] != classes[:, :-1]  # the first frame of a row always starts a run
    starts = np.flatnonzero(fresh)
    ends = np.append(starts[1:], rows * frames)
    peaks = np.maximum.reduceat(best.reshape(-1), starts)
    labels = classes.reshape(-1)[starts]
    found: list[list[_Run]] = [[] for _ in range(rows)]
    for index in np.flatnonzero(labels != BLANK):
        row, start = divmod(int(starts[index]), frames)
        end = int(ends[index]) - row * frames
        found[row].append(_Run(int(labels[index]), start, end, min(1.0, float(peaks[index]))))
    return found


def _long_log_prob(log_probs: torch.Tensor, runs: list[_Run]) -> float:
    """Log probability of a row `(T, C)` of many frames, cut into pieces at its surest blanks."""
    blanks = log_probs[:, BLANK].cpu().numpy()
    total, start, frames = 0.0, 0, len(blanks)
    while start < frames:
        end = frames
        if frames - start > LONGEST_PIECE:
            half = start + LONGEST_PIECE // 2
            end = half + 1 + int(blanks[half : start + LONGEST_PIECE - 1].argmax())
        string = [run.label for run in runs if start <= run.start < end]
        total += string_log_probs(log_probs[None, start:end], [string])[0]
        start = end
    return total

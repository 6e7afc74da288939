"""CTC: greedy decoding, string probabilities and forced alignment.

After Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with
Recurrent Neural Networks" (ICML 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.charset import BLANK

# The forward algorithm needs frames x characters of memory. A longer line is cut at blanks into segments of at most so
# many frames, whose probabilities are multiplied. 1024 frames are two windows.
MAX_SEGMENT_FRAMES = 1024

# Sums of plain probabilities are exact down to here: what underflows on the way, below 1e-307 a state and frame, is
# less than a rounding error. Below, the sums are computed again as logarithms, which takes five times as long.
MIN_PLAIN_PROBABILITY = 1e-260

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Decoded:
    """Decoded string of one row of a batch.

    `ids` are class ids without blanks, `spans` their half-open `(first, last + 1)` frames,
    `confidences` the largest posterior within each span; `confidence` is the probability of `ids`.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    confidences: tuple[float, ...]
    confidence: float


def log_posteriors(logits: Array, temperature: float) -> Array:
    """Calibrated log posteriors, float32, of logits whose last dimension is the class."""
    scores = np.ascontiguousarray(logits, np.float32) / np.float32(temperature)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def greedy(logits: Array, temperature: float = 1.0) -> list[Decoded]:
    """Decode each row by its best class per frame.

    `logits` are float `(B, T, C)` with class 0 the blank; `temperature` divides them before the softmax.
    The confidence of a row is the CTC probability of its decoded string, the
    sum over all alignments, in [0, 1]; for an empty string the product of the blank's posteriors.
    """
    rows, frames, _ = logits.shape
    if rows == 0:
        return []
    log_probs = log_posteriors(logits, temperature)  # (B, T, C)
    runs = _runs(log_probs.argmax(axis=-1), np.exp(log_probs.max(axis=-1)))
    if frames <= MAX_SEGMENT_FRAMES:
        totals = string_log_probs(log_probs, [[run.label for run in row] for row in runs])
    else:
        totals = [_segmented_log_prob(scores, row) for scores, row in zip(log_probs, runs, strict=True)]
    return [
        Decoded(
            tuple(run.label for run in row),
            tuple((run.start, run.end) for run in row),
            tuple(run.confidence for run in row),
            min(1.0, float(np.exp(total))),
        )
        for row, total in zip(runs, totals, strict=True)
    ]


def string_log_probs(log_probs: Array, strings: Sequence[Sequence[int]]) -> list[float]:
    """Natural log CTC probability of one string of class ids for each row of `(B, T, C)`.

    A string without an alignment within T frames has minus infinity.
    """
    states = _states(strings)
    rows, frames = np.arange(len(strings)), np.arange(log_probs.shape[1])
    return _log_sums(log_probs[rows[:, None], frames[:, None, None], states], states, strings)


def log_probs_of_strings(log_probs: Array, strings: Sequence[Sequence[int]]) -> list[float]:
    """Natural log CTC probability of each string of class ids in one row `(T, C)`, as `string_log_probs`."""
    states = _states(strings)
    return _log_sums(log_probs[:, states], states, strings)


def _states(strings: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """CTC states `(B, S)` of each string: blank, first character, blank, second character, ..., blank, blanks."""
    states = np.full((len(strings), 2 * max(map(len, strings), default=0) + 1), BLANK, np.int64)
    for row, string in zip(states, strings, strict=True):
        row[1 : 2 * len(string) : 2] = string
    return states


def _log_sums(emissions: Array, states: NDArray[np.int64], strings: Sequence[Sequence[int]]) -> list[float]:
    """Log of the sum over all alignments, for log posteriors `(T, B, S)` of the states `(B, S)` of the strings."""
    last = np.array([2 * len(string) for string in strings])
    skips = np.zeros(states.shape, bool)  # from character to character, where they need no blank between them
    skips[:, 3::2] = states[:, 3::2] != states[:, 1:-2:2]
    exact = emissions.astype(np.float64)
    with np.errstate(divide="ignore"):
        totals = np.log(_forward(np.exp(exact), skips, last))
    tiny = totals < np.log(MIN_PLAIN_PROBABILITY)
    if tiny.any():
        totals[tiny] = _forward_in_logs(exact[:, tiny], skips[tiny], last[tiny])
    return [float(total) for total in totals]


def _forward(emissions: NDArray[np.float64], skips: NDArray[np.bool_], last: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums `(B,)` over all alignments that end in a state `last` or in the one before it, by the forward algorithm."""
    rows, count = skips.shape
    padded = np.zeros((rows, count + 2))  # two states before the first one spare the special cases
    here, before, two_before = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]
    here[:, :2] = emissions[0, :, :2]
    factors, sums = skips.astype(np.float64), np.empty((rows, count))
    for emission in emissions[1:]:
        np.multiply(two_before, factors, out=sums)
        sums += before
        sums += here
        np.multiply(sums, emission, out=here)
    ends = np.arange(rows)
    return np.asarray(padded[ends, last + 2] + padded[ends, last + 1], np.float64)


def _forward_in_logs(
    emissions: NDArray[np.float64], skips: NDArray[np.bool_], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Logarithms of `_forward`, from logarithms."""
    rows, count = skips.shape
    padded = np.full((rows, count + 2), -np.inf)
    here, before, two_before = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]
    here[:, :2] = emissions[0, :, :2]
    for emission in emissions[1:]:
        sums = np.logaddexp(np.where(skips, two_before, -np.inf), before)
        here[:] = np.logaddexp(sums, here) + emission
    ends = np.arange(rows)
    return np.asarray(np.logaddexp(padded[ends, last + 2], padded[ends, last + 1]), np.float64)


def align(log_probs: Array, ids: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """Forced alignment of a string of class ids to one row `(T, C)` of log posteriors.

    Follows the Viterbi path through the string's CTC states. Returns spans and confidences as in `Decoded`.

    Raises:
        ValueError: the string has no alignment within T frames.
    """
    if not ids:
        return (), ()
    scores = np.asarray(log_probs, np.float64)
    states = np.zeros(2 * len(ids) + 1, np.int64)  # blank, first character, blank, second character, ..., blank
    states[1::2] = ids
    frames, count = len(scores), len(states)
    skips = np.zeros(count, bool)  # from character to character, where they need no blank between them
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(count, -np.inf)
    best[:2] = scores[0, states[:2]]
    steps = np.zeros((frames, count), np.int8)  # states moved forward to get here: 0, 1 or 2
    for frame in range(1, frames):
        moves = np.full((3, count), -np.inf)
        moves[0] = best
        moves[1, 1:] = best[:-1]
        moves[2, 2:] = np.where(skips[2:], best[:-2], -np.inf)
        steps[frame] = moves.argmax(0)
        best = moves.max(0) + scores[frame, states]
    state = count - 1 if best[-1] >= best[-2] else count - 2
    if best[state] == -np.inf:
        raise ValueError(f"{len(ids)} characters do not fit into {frames} frames")
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(steps[frame, state])  # int: eight bits would not hold the states of a long line
    occupied = [np.flatnonzero(path == 2 * index + 1) for index in range(len(ids))]
    spans = tuple((int(frames_of[0]), int(frames_of[-1]) + 1) for frames_of in occupied)
    peaks = (float(np.exp(scores[frames_of, label].max())) for frames_of, label in zip(occupied, ids, strict=True))
    return spans, tuple(min(1.0, peak) for peak in peaks)


@dataclass(frozen=True)
class _Run:
    """Consecutive frames with the same best class, which is not the blank; `end` is exclusive."""

    label: int
    start: int
    end: int
    confidence: float


def _runs(classes: NDArray[np.int64], best: NDArray[np.float32]) -> list[list[_Run]]:
    """Runs of each row of best classes `(B, T)` with their posteriors `(B, T)`."""
    rows, frames = classes.shape
    is_start = np.ones((rows, frames), bool)  # the first frame of a row always starts a run
    is_start[:, 1:] = classes[:, 1:] != classes[:, :-1]
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:], rows * frames)
    peaks = np.maximum.reduceat(best.reshape(-1), starts)
    labels = classes.reshape(-1)[starts]
    runs: list[list[_Run]] = [[] for _ in range(rows)]
    for index in np.flatnonzero(labels != BLANK):
        row, start = divmod(int(starts[index]), frames)
        end = int(ends[index]) - row * frames
        runs[row].append(_Run(int(labels[index]), start, end, min(1.0, float(peaks[index]))))
    return runs


def _segmented_log_prob(log_probs: Array, runs: list[_Run]) -> float:
    """Log probability of the runs of a long row `(T, C)`, cut into segments at its most probable blanks."""
    blanks = log_probs[:, BLANK]
    total, start, frames = 0.0, 0, len(blanks)
    while start < frames:
        end = frames
        if frames - start > MAX_SEGMENT_FRAMES:
            half = start + MAX_SEGMENT_FRAMES // 2
            end = half + 1 + int(blanks[half : start + MAX_SEGMENT_FRAMES - 1].argmax())
        string = [run.label for run in runs if start <= run.start < end]
        total += string_log_probs(log_probs[None, start:end], [string])[0]
        start = end
    return total

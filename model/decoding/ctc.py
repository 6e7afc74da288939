"""CTC: greedy decoding, string probabilities and forced alignment.

After Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with
Recurrent Neural Networks" (ICML 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from linewise.model.network.charset import BLANK

# The forward algorithm needs frames x characters of memory. A longer line is cut at blanks into segments of at most so
# many frames, whose probabilities are multiplied. 1024 frames are two windows.
MAX_SEGMENT_FRAMES = 1024


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


def log_posteriors(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Calibrated log posteriors, float32, of logits whose last dimension is the class."""
    return (logits.float() / temperature).log_softmax(dim=-1)


def greedy(logits: torch.Tensor, temperature: float = 1.0) -> list[Decoded]:
    """Decode each row by its best class per frame.

    `logits` are float `(B, T, C)` with class 0 the blank; `temperature` divides them before the softmax.
    The confidence of a row is the CTC probability of its decoded string, the
    sum over all alignments, in [0, 1]; for an empty string the product of the blank's posteriors.
    """
    rows, frames, _ = logits.shape
    if rows == 0:
        return []
    log_probs = log_posteriors(logits, temperature)  # (B, T, C)
    best, classes = log_probs.max(dim=-1)  # (B, T) each
    runs = _runs(classes.cpu().numpy(), best.exp().cpu().numpy())
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


def string_log_probs(log_probs: torch.Tensor, strings: list[list[int]]) -> list[float]:
    """Natural log CTC probability of one string of class ids for each row of `(B, T, C)`.

    A string without an alignment within T frames has minus infinity.
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


def align(log_probs: torch.Tensor, ids: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """Forced alignment of a string of class ids to one row `(T, C)` of log posteriors.

    Follows the Viterbi path through the string's CTC states. Returns spans and confidences as in `Decoded`.

    Raises:
        ValueError: the string has no alignment within T frames.
    """
    if not ids:
        return (), ()
    scores = log_probs.double().cpu().numpy()
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


def _segmented_log_prob(log_probs: torch.Tensor, runs: list[_Run]) -> float:
    """Log probability of the runs of a long row `(T, C)`, cut into segments at its most probable blanks."""
    blanks = log_probs[:, BLANK].cpu().numpy()
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

"""N-best decoding by CTC prefix beam search, optionally constrained to characters and a lexicon.

After Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014). A constraint narrows the search and leaves the probabilities of strings as they are.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from linewise.model.decoding.ctc import MAX_SEGMENT_FRAMES, Array, log_probs_of_strings
from linewise.model.decoding.lexicon import Lexicon, State
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import BLANK, Charset

BEAM_WIDTH = 16  # prefixes kept per frame

# A frame extends prefixes by the classes whose posterior is at least this share of the best permitted one. At 1e-3, an
# alignment through a less probable class would need a thousand times the evidence elsewhere to matter. A lexicon may
# demand an improbable character, so its threshold is lower.
MIN_POSTERIOR_SHARE = 1e-3
MIN_POSTERIOR_SHARE_WITH_LEXICON = 1e-6

MAX_COMPLETIONS = 64  # entries scored when no kept prefix is a complete entry


@dataclass(frozen=True)
class Candidate:
    """A string of class ids without blanks, and its unconstrained CTC probability."""

    ids: tuple[int, ...]
    confidence: float


def search(log_probs: Array, charset: Charset, decoding: Decoding, *, width: int = BEAM_WIDTH) -> list[Candidate]:
    """The most probable strings of one row `(T, C)` of log posteriors that satisfy `decoding`, in descending order.

    Returns 1 to `width` candidates, the empty string among them if need be. Their probabilities are exact sums over
    all alignments, comparable with those of greedy decoding.

    Raises:
        ValueError: `width` is below 1.
    """
    share = MIN_POSTERIOR_SHARE if decoding.lexicon is None else MIN_POSTERIOR_SHARE_WITH_LEXICON
    strings = beam_strings(log_probs, charset, decoding, width=width, min_posterior_share=share)
    # Ordered by the logarithm, because the probabilities of long lines may all be 0 as floats.
    scored = sorted(score_strings(log_probs, strings), key=lambda string: -string[1])
    return [Candidate(ids, min(1.0, float(np.exp(log_prob)))) for ids, log_prob in scored[:width]]


def beam_strings(
    log_probs: Array, charset: Charset, decoding: Decoding, *, width: int, min_posterior_share: float
) -> list[tuple[int, ...]]:
    """Distinct strings of class ids in the final beam of one row `(T, C)` of log posteriors, in no order.

    `min_posterior_share` is the share of a frame's best posterior below which a class is skipped there. With a lexicon
    there may be more than `width` strings.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"a beam needs at least one prefix, not {width}")
    posteriors = np.exp(log_probs).astype(np.float64)  # (T, C)
    if decoding.allowed is not None:
        barred = np.ones(posteriors.shape[1], bool)
        barred[[BLANK, *decoding.allowed]] = False
        posteriors[:, barred] = 0.0
    lexicon = decoding.lexicon
    likely = posteriors > min_posterior_share * posteriors.max(axis=1, keepdims=True)
    likely[:, BLANK] = False
    frames, labels = np.nonzero(likely)
    bounds = np.searchsorted(frames, np.arange(len(posteriors) + 1))
    beams: _Beams = {_Prefix(None, BLANK, lexicon.start if lexicon else ()): (1.0, 0.0)}
    grown: dict[tuple[_Prefix, int], _Prefix] = {}
    for frame, (first, end) in enumerate(pairwise(bounds.tolist())):
        if first == end:  # only the blank is likely, for every prefix
            beams = {prefix: (in_blank + in_character, 0.0) for prefix, (in_blank, in_character) in beams.items()}
            continue
        classes = dict(zip(labels[first:end].tolist(), posteriors[frame, labels[first:end]].tolist(), strict=True))
        beams = _extend(beams, float(posteriors[frame, BLANK]), classes, lexicon, grown, width)
    return _complete(list(beams), lexicon, charset) if lexicon else [prefix.ids() for prefix in beams]


class _Prefix:
    """Beginning of a string: a shorter prefix, one more character, and its state in the lexicon.

    Each prefix exists once, so a dictionary distinguishes two by identity without comparing their strings.
    """

    __slots__ = ("label", "parent", "state")

    def __init__(self, parent: "_Prefix | None", label: int, state: State) -> None:
        self.parent, self.label, self.state = parent, label, state

    def ids(self) -> tuple[int, ...]:
        """Class ids in order; none for the root, whose label is the blank."""
        labels, prefix = [], self
        while prefix.parent is not None:
            labels.append(prefix.label)
            prefix = prefix.parent
        return tuple(reversed(labels))


# By prefix: probability of its alignments that end in a blank, and of those that end in its last character.
_Beams = dict[_Prefix, tuple[float, float]]


def _extend(
    beams: _Beams, blank: float, classes: dict[int, float], lexicon: Lexicon | None,
    grown: dict[tuple[_Prefix, int], _Prefix], width: int,
) -> _Beams:  # fmt: skip
    """The best `width` prefixes after one more frame, scaled to a sum of 1; adds new prefixes to `grown`.

    `blank` is the blank's posterior in this frame, `classes` the posteriors of the likely classes by class id.
    """
    sums: dict[_Prefix, list[float]] = {}
    for prefix, (after_blank, after_character) in beams.items():
        both = after_blank + after_character
        unchanged = sums.setdefault(prefix, [0.0, 0.0])
        unchanged[0] += both * blank
        unchanged[1] += after_character * classes.get(prefix.label, 0.0)
        following = lexicon.following(prefix.state) if lexicon else None
        for label, posterior in classes.items():
            if following is not None and label not in following:
                continue
            longer = grown.get((prefix, label))
            if longer is None:
                longer = grown[prefix, label] = _Prefix(prefix, label, following[label] if following else ())
            # A character doubles only across a blank; without one the same character lasts longer.
            before = after_blank if prefix.label == label else both
            sums.setdefault(longer, [0.0, 0.0])[1] += before * posterior
    kept = heapq.nlargest(width, sums.items(), key=_mass) if len(sums) > width else sums.items()
    total = sum(map(_mass, kept)) or 1.0
    return {prefix: (in_blank / total, in_character / total) for prefix, (in_blank, in_character) in kept}


def _mass(item: tuple[_Prefix, list[float]]) -> float:
    return item[1][0] + item[1][1]


def _complete(prefixes: Sequence[_Prefix], lexicon: Lexicon, charset: Charset) -> list[tuple[int, ...]]:
    """Strings that consist of complete entries; without any, completions of the prefixes and the empty string."""
    strings = [(prefix, prefix.ids()) for prefix in prefixes]
    complete = [ids for prefix, ids in strings if not ids or lexicon.is_complete(prefix.state)]
    if any(complete) or not any(ids for _, ids in strings):
        return complete
    completed = [
        (*ids, *charset.encode(rest))
        for prefix, ids in strings
        for rest in lexicon.completions(prefix.state, MAX_COMPLETIONS)
    ]
    return [(), *completed[:MAX_COMPLETIONS]]


def score_strings(log_probs: Array, strings: Sequence[tuple[int, ...]]) -> Iterable[tuple[tuple[int, ...], float]]:
    """Each string of class ids with its natural log probability in a row `(T, C)` of log posteriors.

    Strings are scored in one batch, or one by one where `T` is too long for that.
    """
    frames = log_probs.shape[0]
    size = len(strings) if frames <= MAX_SEGMENT_FRAMES else 1
    for first in range(0, len(strings), max(1, size)):
        part = strings[first : first + size]
        yield from zip(part, log_probs_of_strings(log_probs, part), strict=True)

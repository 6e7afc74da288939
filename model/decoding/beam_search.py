"""N-best decoding by CTC prefix beam search, optionally constrained to characters and a lexicon.

After Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014). A constraint narrows the search and leaves the probabilities of strings as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from linewise.model.decoding.ctc import Array, log_probs_of_strings
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
    (scores,) = log_probs_of_strings([log_probs], strings)
    # Ordered by the logarithm, because the probabilities of long lines may all be 0 as floats.
    best = np.argsort(-scores, kind="stable")[:width].tolist()
    return [Candidate(strings[index], min(1.0, float(np.exp(scores[index])))) for index in best]


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
    if decoding.allowed is not None:
        barred = np.ones(log_probs.shape[1], bool)
        barred[[BLANK, *decoding.allowed]] = False
        log_probs = np.where(barred, np.float32(-np.inf), log_probs)
    search = _Search(log_probs.shape[1], width, decoding.lexicon)
    previous = -1
    for frame, blank, classes in _likely_classes(log_probs, min_posterior_share):
        if frame > previous + 1:
            search.pass_blank()
        search.extend(blank, classes)
        previous = frame
    strings = search.strings()
    return _complete(strings, decoding.lexicon, charset) if decoding.lexicon else [ids for ids, _ in strings]


def _likely_classes(log_probs: Array, min_share: float) -> Iterator[tuple[int, float, dict[int, float]]]:
    """Frames in which a class other than the blank is likely: index, weight of the blank, weights by likely class.

    Weights are posteriors over the best posterior of the frame.
    """
    log_weights = log_probs - log_probs.max(axis=1, keepdims=True)  # (T, C)
    blanks = np.exp(log_weights[:, BLANK].astype(np.float64)).tolist()
    log_weights[:, BLANK] = -np.inf
    places = np.flatnonzero(log_weights > np.log(min_share))
    weights = np.exp(log_weights.ravel()[places].astype(np.float64)).tolist()
    frames, labels = (numbers.tolist() for numbers in np.divmod(places, log_probs.shape[1]))
    for frame, group in groupby(zip(frames, labels, weights, strict=True), key=itemgetter(0)):
        yield frame, blanks[frame], {label: weight for _, label, weight in group}


class _Search:
    """Beam of prefixes, each a number.

    Each prefix has one number, so two are told apart without comparing their strings. Number 0 is the empty one.
    """

    def __init__(self, classes: int, width: int, lexicon: Lexicon | None) -> None:
        self._classes, self._width, self._lexicon = classes, width, lexicon
        self._parents, self._labels = [0], [BLANK]
        self._states: list[State] = [lexicon.start if lexicon else ()]
        self._numbers: dict[int, int] = {}  # by parent x classes + label
        # By prefix: weight of its alignments that end in a blank, and of those that end in its last character.
        self._beam: dict[int, tuple[float, float]] = {0: (1.0, 0.0)}

    def pass_blank(self) -> None:
        """Go on by frames in which only the blank is likely, for every prefix."""
        self._beam = {prefix: (in_blank + in_label, 0.0) for prefix, (in_blank, in_label) in self._beam.items()}

    def extend(self, blank: float, classes: dict[int, float]) -> None:
        """Go on by one frame to the best prefixes, scaled to a sum of 1.

        `blank` is the blank's weight in the frame, `classes` those of the likely classes by class id.
        """
        in_blanks: dict[int, float] = {}
        in_labels: dict[int, float] = {}
        for prefix, (after_blank, after_label) in self._beam.items():
            both = after_blank + after_label
            in_blanks[prefix] = both * blank
            last = self._labels[prefix]
            in_labels[prefix] = in_labels.get(prefix, 0.0) + after_label * classes.get(last, 0.0)
            following = self._lexicon.following(self._states[prefix]) if self._lexicon else None
            for label, weight in classes.items():
                if following is not None and label not in following:
                    continue
                longer = self._numbers.get(prefix * self._classes + label)
                if longer is None:
                    longer = self._add(prefix, label, following[label] if following else ())
                # A character doubles only across a blank; without one the same character lasts longer.
                before = after_blank if last == label else both
                in_labels[longer] = in_labels.get(longer, 0.0) + before * weight
        sums = {prefix: in_label + in_blanks.get(prefix, 0.0) for prefix, in_label in in_labels.items()}
        kept = sorted(sums, key=sums.__getitem__, reverse=True)[: self._width]
        scale = 1.0 / (sum(sums[prefix] for prefix in kept) or 1.0)
        self._beam = {prefix: (in_blanks.get(prefix, 0.0) * scale, in_labels[prefix] * scale) for prefix in kept}

    def _add(self, parent: int, label: int, state: State) -> int:
        number = self._numbers[parent * self._classes + label] = len(self._parents)
        self._parents.append(parent)
        self._labels.append(label)
        self._states.append(state)
        return number

    def strings(self) -> list[tuple[tuple[int, ...], State]]:
        """Class ids of each prefix in the beam, and its state in the lexicon."""
        strings = []
        for prefix in self._beam:
            labels, ancestor = [], prefix
            while ancestor:
                labels.append(self._labels[ancestor])
                ancestor = self._parents[ancestor]
            strings.append((tuple(reversed(labels)), self._states[prefix]))
        return strings


def _complete(
    strings: Sequence[tuple[tuple[int, ...], State]], lexicon: Lexicon, charset: Charset
) -> list[tuple[int, ...]]:
    """Strings that consist of complete entries; without any, completions of the prefixes and the empty string."""
    complete = [ids for ids, state in strings if not ids or lexicon.is_complete(state)]
    if any(complete) or not any(ids for ids, _ in strings):
        return complete
    completed = [
        (*ids, *charset.encode(rest)) for ids, state in strings for rest in lexicon.completions(state, MAX_COMPLETIONS)
    ]
    return [(), *completed[:MAX_COMPLETIONS]]

"""N-best decoding by prefix beam search, free or held to certain characters and to a lexicon.

After Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014). A constraint narrows what is searched, never how probable a string is said to be.
"""

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from linewise.model.decoding.ctc import LONGEST_PIECE, string_log_probs
from linewise.model.network.charset import BLANK, STRAIGHT, Charset

WIDTH = 16  # prefixes kept per frame

# Per frame, classes are tried whose posterior is at least this share of the best permitted one: at
# 1e-3, an alignment through a less likely class would need a thousand times the evidence elsewhere to
# matter. A lexicon may demand a character that the network hardly considered, so there it is less.
LEAST_SHARE = 1e-3
LEAST_SHARE_IN_LEXICON = 1e-6

COMPLETIONS = 64  # entries tried when no kept prefix is a whole entry

# Ranges `(first, last + 1, characters matched)` of the sorted entries: where in the lexicon a prefix may be.
_State = tuple[tuple[int, int, int], ...]


class Lexicon:
    """The texts that may be read: one of the entries, or several with single spaces between.

    Entries are compared as they are written, but for typographic quotes, which equal straight ones.
    They are kept sorted, and what can follow a prefix is found by bisection; 90 000 entries take
    about 10 MB and a tenth of a second to sort.

    Raises:
        ValueError: no entry, or characters that the alphabet lacks.
    """

    def __init__(self, entries: Iterable[str], charset: Charset) -> None:
        texts = {" ".join(entry.split()).translate(STRAIGHT) for entry in entries} - {""}
        missing = charset.unsupported("".join(sorted(texts)))
        if missing:
            raise ValueError(f"the lexicon has characters that the model cannot write: {missing[:20]}")
        if not texts:
            raise ValueError("the lexicon has no entry")
        self._entries = sorted(texts)
        self._letters = ["", *charset.alphabet.translate(STRAIGHT)]  # by class id
        self._ids: defaultdict[str, list[int]] = defaultdict(list)
        for label, letter in enumerate(self._letters):
            self._ids[letter].append(label)
        self._first: _State = ((0, len(self._entries), 0),)
        self._following: dict[_State, dict[int, _State]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def start(self) -> _State:
        """The state before the first character."""
        return self._first

    def following(self, state: _State) -> dict[int, _State]:
        """By class id, the state after each character that may come next."""
        known = self._following.get(state)
        if known is None:
            known = self._following[state] = self._find_following(state)
        return known

    def _find_following(self, state: _State) -> dict[int, _State]:
        found: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for first, end, depth in state:
            while first < end:
                entry = self._entries[first]
                if len(entry) == depth:  # a whole entry: the next one may begin after a space
                    found[" "].extend(self._first)
                    first += 1
                    continue
                letter = entry[depth]
                after = bisect_right(self._entries, letter, first, end, key=lambda other: other[depth : depth + 1])
                found[letter].append((first, after, depth + 1))
                first = after
        return {label: tuple(ranges) for letter, ranges in found.items() for label in self._ids[letter]}

    def is_whole(self, state: _State) -> bool:
        """Whether the text may end here."""
        return any(len(self._entries[first]) == depth for first, end, depth in state if first < end)

    def completions(self, state: _State, most: int) -> list[str]:
        """What is missing from the prefix to up to `most` of the entries that it may become."""
        missing = [
            entry[depth:] for first, end, depth in state for entry in self._entries[first : min(end, first + most)]
        ]
        return missing[:most]


@dataclass(frozen=True)
class Decoding:
    """What a caller asks of the search: how many other texts, which characters, which words.

    `allowed` are class ids, None for all of them.
    """

    alternatives: int = 0
    allowed: frozenset[int] | None = None
    lexicon: Lexicon | None = None

    @property
    def constrained(self) -> bool:
        """Whether there are texts that the search may not find."""
        return self.allowed is not None or self.lexicon is not None


@dataclass(frozen=True)
class Candidate:
    """A string of class ids without blanks, and its CTC probability, whatever the search was held to."""

    ids: tuple[int, ...]
    confidence: float


def search(log_probs: torch.Tensor, charset: Charset, asked: Decoding, *, width: int = WIDTH) -> list[Candidate]:
    """The most probable strings of one row `(T, C)` of log posteriors that fit what is asked, the likeliest first.

    There are up to `width` of them and always one, if need be the empty string. The probabilities are
    exact sums over all alignments, comparable with those of greedy decoding.

    Raises:
        ValueError: `width` is below 1.
    """
    share = LEAST_SHARE if asked.lexicon is None else LEAST_SHARE_IN_LEXICON
    found = strings(log_probs, charset, asked, width=width, least_share=share)
    candidates = [Candidate(ids, min(1.0, float(np.exp(total)))) for ids, total in string_totals(log_probs, found)]
    return sorted(candidates, key=lambda candidate: -candidate.confidence)[:width]


def strings(
    log_probs: torch.Tensor, charset: Charset, asked: Decoding, *, width: int, least_share: float
) -> list[tuple[int, ...]]:
    """The class ids of strings that may be the most probable of one row, in no order, each of them once.

    `least_share` is the share of a frame's best posterior below which a class is not tried there. With a lexicon there
    may be more than `width` of them.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError("a beam needs at least one prefix")
    posteriors = log_probs.exp().double().cpu().numpy()  # (T, C)
    if asked.allowed is not None:
        barred = np.ones(posteriors.shape[1], bool)
        barred[[BLANK, *asked.allowed]] = False
        posteriors[:, barred] = 0.0
    lexicon = asked.lexicon
    likely = posteriors > least_share * posteriors.max(axis=1, keepdims=True)
    likely[:, BLANK] = False
    frames, labels = np.nonzero(likely)
    bounds = np.searchsorted(frames, np.arange(len(posteriors) + 1))
    beams: _Beams = {_Prefix(None, BLANK, lexicon.start if lexicon else ()): (1.0, 0.0)}
    grown: dict[tuple[_Prefix, int], _Prefix] = {}
    for frame, (first, end) in enumerate(pairwise(bounds.tolist())):
        if first == end:  # a blank for certain, which all prefixes share
            beams = {prefix: (in_blank + in_character, 0.0) for prefix, (in_blank, in_character) in beams.items()}
            continue
        tried = dict(zip(labels[first:end].tolist(), posteriors[frame, labels[first:end]].tolist(), strict=True))
        beams = _extended(beams, float(posteriors[frame, BLANK]), tried, lexicon, grown, width)
    return _whole(list(beams), lexicon, charset) if lexicon else [prefix.ids() for prefix in beams]


class _Prefix:
    """How a string begins: a shorter prefix, one more character, and where in the lexicon that is.

    Each exists once, so that a dictionary tells two apart without comparing their strings.
    """

    __slots__ = ("before", "label", "state")

    def __init__(self, before: "_Prefix | None", label: int, state: _State) -> None:
        self.before, self.label, self.state = before, label, state

    def ids(self) -> tuple[int, ...]:
        """The class ids from the first one on; the empty prefix, which alone has the blank for its label, has none."""
        labels, prefix = [], self
        while prefix.before is not None:
            labels.append(prefix.label)
            prefix = prefix.before
        return tuple(reversed(labels))


# By prefix: probability of its alignments that end in a blank, and of those that end in its last character.
_Beams = dict[_Prefix, tuple[float, float]]


def _extended(
    beams: _Beams, blank: float, likely: dict[int, float], lexicon: Lexicon | None,
    grown: dict[tuple[_Prefix, int], _Prefix], width: int,
) -> _Beams:  # fmt: skip
    """The best `width` prefixes after one more frame, scaled so that they sum to 1; enters new ones into `grown`."""
    sums: dict[_Prefix, list[float]] = {}
    for prefix, (after_blank, after_character) in beams.items():
        both = after_blank + after_character
        known = sums.setdefault(prefix, [0.0, 0.0])
        known[0] += both * blank
        known[1] += after_character * likely.get(prefix.label, 0.0)
        following = lexicon.following(prefix.state) if lexicon else None
        for label, posterior in likely.items():
            if following is not None and label not in following:
                continue
            longer = grown.get((prefix, label))
            if longer is None:
                longer = grown[prefix, label] = _Prefix(prefix, label, following[label] if following else ())
            # A character doubles only across a blank; without one it is the same character, longer.
            before = after_blank if prefix.label == label else both
            sums.setdefault(longer, [0.0, 0.0])[1] += before * posterior
    kept = heapq.nlargest(width, sums.items(), key=_mass) if len(sums) > width else sums.items()
    total = sum(map(_mass, kept)) or 1.0
    return {prefix: (in_blank / total, in_character / total) for prefix, (in_blank, in_character) in kept}


def _mass(item: tuple[_Prefix, list[float]]) -> float:
    return item[1][0] + item[1][1]


def _whole(prefixes: Sequence[_Prefix], lexicon: Lexicon, charset: Charset) -> list[tuple[int, ...]]:
    """Those strings that are made of whole entries; without any, what the likeliest prefixes may become; or nothing."""
    strings = [(prefix, prefix.ids()) for prefix in prefixes]
    whole = [ids for prefix, ids in strings if not ids or lexicon.is_whole(prefix.state)]
    if any(whole) or not any(ids for _, ids in strings):
        return whole
    completed = [
        (*ids, *charset.encode(rest))
        for prefix, ids in strings
        for rest in lexicon.completions(prefix.state, COMPLETIONS)
    ]
    return [(), *completed[:COMPLETIONS]]


def string_totals(
    log_probs: torch.Tensor, strings: Sequence[tuple[int, ...]]
) -> Iterable[tuple[tuple[int, ...], float]]:
    """Each string of class ids with the natural logarithm of its probability in a row `(T, C)` of log posteriors.

    As many at once as memory allows; `T` may be of any size.
    """
    frames = log_probs.shape[0]
    size = len(strings) if frames <= LONGEST_PIECE else 1
    for first in range(0, len(strings), max(1, size)):
        part = [list(ids) for ids in strings[first : first + size]]
        totals = string_log_probs(log_probs.expand(len(part), *log_probs.shape), part)
        yield from zip(strings[first : first + size], totals, strict=True)

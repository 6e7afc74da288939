"""Metrics of recognition: agreement of strings, character error rate, calibration error."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

# By code point, because in most fonts these look alike.
SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u02bc\u2032"
DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u2033"
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
ASCII_PUNCTUATION = str.maketrans(
    {**dict.fromkeys(SINGLE_QUOTES, "'"), **dict.fromkeys(DOUBLE_QUOTES, '"'), **dict.fromkeys(DASHES, "-")}
)

RELIABILITY_BINS = 15  # as in most published calibration errors


class Metric(StrEnum):
    """Condition under which a reading counts as correct."""

    FOLDED = "folded"
    CASE_INSENSITIVE = "ci"
    EXACT = "exact"

    def agrees(self, label: str, reading: str) -> bool:
        """Whether the reading is correct: both strings are equal once normalised."""
        return self._normalise(label) == self._normalise(reading)

    def _normalise(self, text: str) -> str:
        match self:
            case Metric.FOLDED:
                return fold(text)
            case Metric.CASE_INSENSITIVE:
                return text.lower()
            case Metric.EXACT:
                return text


def fold(text: str) -> str:
    """Decompose the text (NFKD), lower-case it and keep only 0-9 and a-z.

    The protocol of the scene-text datasets, whose labels leave accents out: letters count without their
    combining marks.
    """
    return re.sub(r"[^0-9a-z]", "", unicodedata.normalize("NFKD", text).lower())


def fold_quotes(text: str) -> str:
    """Replace typographic quotes, apostrophes and dashes by the ASCII ' " and -."""
    return text.translate(ASCII_PUNCTUATION)


def levenshtein(label: str, reading: str) -> int:
    """Minimum number of single-character insertions, deletions and substitutions (Levenshtein, 1966)."""
    from rapidfuzz.distance import Levenshtein  # imported late: every command imports `Metric`, few compare strings

    return Levenshtein.distance(label, reading)


def character_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Summed edit distance over summed label length of `(label, reading)` pairs; 0 without labels.

    Case and spaces count. Typographic quotes, apostrophes and dashes count as their ASCII forms on
    both sides, because labels differ in how they write them. The rate exceeds 1 where readings hold
    many additional characters.
    """
    distance = length = 0
    for label, reading in pairs:
        ascii_label = fold_quotes(label)
        distance += levenshtein(ascii_label, fold_quotes(reading))
        length += len(ascii_label)
    return distance / length if length else 0.0


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions of similar confidence: their number, mean confidence and accuracy, both in [0, 1]."""

    predictions: int
    confidence: float
    accuracy: float


def reliability(outcomes: Iterable[tuple[float, bool]], bins: int = RELIABILITY_BINS) -> list[ReliabilityBin]:
    """Group `(confidence, is correct)` pairs into `bins` equal parts of [0, 1], without the empty ones."""
    parts: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, is_correct in outcomes:
        parts[min(bins - 1, int(confidence * bins))].append((confidence, is_correct))
    return [
        ReliabilityBin(len(part), sum(c for c, _ in part) / len(part), sum(correct for _, correct in part) / len(part))
        for part in parts
        if part
    ]


def expected_calibration_error(outcomes: Iterable[tuple[float, bool]], bins: int = RELIABILITY_BINS) -> float:
    """Mean gap between confidence and accuracy, weighted by the predictions of each bin, in [0, 1].

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    filled = reliability(outcomes, bins)
    total = sum(b.predictions for b in filled)
    return sum(b.predictions * abs(b.confidence - b.accuracy) for b in filled) / total if total else 0.0

"""How well readings agree with labels: pure functions over strings."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

# By code point, because in most fonts these look alike.
SINGLE_QUOTES = "\u2018\u2019\u201a\u201b\u02bc\u2032"
DOUBLE_QUOTES = "\u201c\u201d\u201e\u201f\u2033"
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
PLAIN = str.maketrans(
    {**dict.fromkeys(SINGLE_QUOTES, "'"), **dict.fromkeys(DOUBLE_QUOTES, '"'), **dict.fromkeys(DASHES, "-")}
)


def fold(text: str) -> str:
    """Lower case, and only the characters 0-9 and a-z of it: the protocol of the scene-text sets."""
    return re.sub(r"[^0-9a-z]", "", text.lower())


def fold_quotes(text: str) -> str:
    """The text with typographic quotes, apostrophes and dashes as the ASCII ' " and -."""
    return text.translate(PLAIN)


def folded(label: str, reading: str) -> bool:
    """Whether letters without accents and digits agree, whatever their case."""
    return fold(label) == fold(reading)


def case_insensitive(label: str, reading: str) -> bool:
    """Whether both agree in lower case, punctuation and spaces included."""
    return label.lower() == reading.lower()


def exact(label: str, reading: str) -> bool:
    """Whether every character, its case, and every space agree."""
    return label == reading


def levenshtein(label: str, reading: str) -> int:
    """Least number of insertions, deletions and substitutions of one character (Levenshtein, 1966)."""
    return Levenshtein.distance(label, reading)


def character_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Summed edit distance over summed label length of `(label, reading)` pairs, 0 for no labels.

    Case and spaces count; typographic quotes, apostrophes and dashes count as their ASCII forms on
    both sides, since labels differ in how they write them. Can exceed 1 where much is read too much.
    """
    distance = length = 0
    for label, reading in pairs:
        plain = fold_quotes(label)
        distance += levenshtein(plain, fold_quotes(reading))
        length += len(plain)
    return distance / length if length else 0.0


BINS = 15  # of confidence, as in most published calibration errors


@dataclass(frozen=True)
class Bin:
    """Answers whose confidences lie close together: how many, their mean confidence, the share that is right."""

    answers: int
    confidence: float
    right: float


def reliability(answers: Iterable[tuple[float, bool]], bins: int = BINS) -> list[Bin]:
    """`(confidence, right)` pairs gathered into `bins` equal parts of [0, 1]; empty parts are left out."""
    parts: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for confidence, right in answers:
        parts[min(bins - 1, int(confidence * bins))].append((confidence, right))
    return [
        Bin(len(part), sum(c for c, _ in part) / len(part), sum(right for _, right in part) / len(part))
        for part in parts
        if part
    ]


def expected_calibration_error(answers: Iterable[tuple[float, bool]], bins: int = BINS) -> float:
    """Mean gap between confidence and share of right answers, weighted by answers, in [0, 1].

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    found = reliability(answers, bins)
    total = sum(one.answers for one in found)
    return sum(one.answers * abs(one.confidence - one.right) for one in found) / total if total else 0.0

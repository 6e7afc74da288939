"""Agreement of readings with labels."""

from __future__ import annotations

import pytest

from linewise.model.evaluation import metrics
from linewise.model.evaluation.metrics import Metric


@pytest.mark.parametrize(
    ("label", "reading", "folded", "ci", "exact"),
    [
        ("Room 12", "Room 12", True, True, True),
        ("ROOM 12", "Room 12", True, True, False),
        ("ROOM12", "room-12!", True, False, False),
        ("cafe", "café", True, False, False),
        ("CAFE", "cafe\u0301", True, False, False),
        ("café", "caf", False, False, False),
        ("2 fi", "\u00b2 \ufb01", True, False, False),  # superscript and ligature
        ("東京 1", "1", True, False, False),  # other scripts do not count
        ("a", "b", False, False, False),
        ("", "", True, True, True),
    ],
)
def test_the_three_ways_to_agree(label: str, reading: str, folded: bool, ci: bool, exact: bool) -> None:
    assert Metric.FOLDED.agrees(label, reading) is folded
    assert Metric.CASE_INSENSITIVE.agrees(label, reading) is ci
    assert Metric.EXACT.agrees(label, reading) is exact


@pytest.mark.parametrize(
    ("label", "reading", "distance"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("ab", "ba", 2), ("é", "e", 1)],
)
def test_the_edit_distance(label: str, reading: str, distance: int) -> None:
    assert metrics.levenshtein(label, reading) == distance


def test_the_error_rate_is_over_the_whole_set() -> None:
    assert metrics.character_error_rate([("abcdefgh", "abcdefgh"), ("xy", "x")]) == pytest.approx(0.1)


def test_the_error_rate_counts_case_and_spaces() -> None:
    assert metrics.character_error_rate([("A b", "ab")]) == pytest.approx(2 / 3)


def test_the_error_rate_does_not_count_how_quotes_and_dashes_are_drawn() -> None:
    assert metrics.character_error_rate([("l’été — “oui”", 'l\'été - "oui"')]) == 0
    assert metrics.character_error_rate([("don't", "don’t")]) == 0


def test_the_error_rate_of_nothing_is_zero() -> None:
    assert metrics.character_error_rate([]) == 0


def test_guillemets_and_accents_are_letters_of_their_own() -> None:
    assert metrics.fold_quotes("«é»") == "«é»"


def test_predictions_are_grouped_by_confidence() -> None:
    bins = metrics.reliability([(0.05, False), (0.95, True), (0.91, False), (1.0, True)], bins=10)
    assert [(b.predictions, b.confidence, b.accuracy) for b in bins] == [
        (1, 0.05, 0.0),
        (3, pytest.approx(2.86 / 3), pytest.approx(2 / 3)),
    ]


def test_the_calibration_error_is_the_weighed_gap() -> None:
    assert metrics.expected_calibration_error([]) == 0.0
    assert metrics.expected_calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == pytest.approx(0.0)
    pairs = [(1.0, False), (0.0, False), (0.5, True), (0.5, True)]
    assert metrics.expected_calibration_error(pairs, bins=4) == pytest.approx((1.0 + 0.0 + 2 * 0.5) / 4)

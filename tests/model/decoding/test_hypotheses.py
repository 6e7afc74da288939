"""Hypotheses of a batch, and which of them are rescored."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model.decoding.hypotheses import decode
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import Charset
from tests.model.decoding.test_ctc import log_softmax, peaked

CHARSET = Charset("ab")


def row(height: float) -> NDArray[np.float32]:
    """Logits `(T, C)` of a network that reads `ab`, the more confident the higher the peaks."""
    return np.asarray(peaked([1, 0, 2, 0], CHARSET.classes, height)[0], np.float32)


def test_only_a_doubtful_unconstrained_result_is_rescored() -> None:
    barred = Decoding(allowed=frozenset([1]))
    logits = np.stack([row(12), row(2), row(2), row(2)])
    sure, doubtful, constrained, alternatives = decode(logits, 1.0, CHARSET, [None, None, barred, Decoding(3)])
    assert sure.log_probs is None and constrained.log_probs is None
    for hypotheses in (doubtful, alternatives):
        assert hypotheses.log_probs is not None
        assert hypotheses.log_probs == pytest.approx(log_softmax(row(2)).numpy())
    assert sure.best.confidence > 0.9 and doubtful.best.confidence < 0.6


def test_the_temperature_divides_the_logits() -> None:
    (cold,), (hot,) = (decode(row(12)[None], temperature, CHARSET, [None]) for temperature in (1.0, 12.0))
    assert cold.best.ids == hot.best.ids == (1, 2)
    assert cold.best.confidence > hot.best.confidence


def test_alternatives_follow_the_best_string() -> None:
    (hypotheses,) = decode(row(2)[None], 1.0, CHARSET, [Decoding(3)])
    confidences = [hypotheses.best.confidence, *(other.confidence for other in hypotheses.others)]
    assert len(confidences) > 3 and confidences == sorted(confidences, reverse=True)


def test_each_row_needs_its_decoding() -> None:
    with pytest.raises(ValueError, match="shorter"):
        decode(np.stack([row(2), row(2)]), 1.0, CHARSET, [None])

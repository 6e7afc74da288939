"""Hypotheses of a batch, and which of them are rescored."""

from __future__ import annotations

import pytest
import torch

from linewise.model.decoding.hypotheses import decode
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import Charset
from tests.model.decoding.test_ctc import peaked

CHARSET = Charset("ab")


def row(height: float) -> torch.Tensor:
    """Logits `(T, C)` of a network that reads `ab`, the more confident the higher the peaks."""
    return peaked([1, 0, 2, 0], CHARSET.classes, height)[0]


def test_only_a_doubtful_unconstrained_result_is_rescored() -> None:
    barred = Decoding(allowed=frozenset([1]))
    logits = torch.stack([row(12), row(2), row(2), row(2)])
    sure, doubtful, constrained, alternatives = decode(logits, 1.0, CHARSET, [None, None, barred, Decoding(3)])
    assert sure.log_probs is None and constrained.log_probs is None
    for hypotheses in (doubtful, alternatives):
        assert hypotheses.log_probs is not None
        assert torch.equal(hypotheses.log_probs, row(2).log_softmax(-1))
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
        decode(torch.stack([row(2), row(2)]), 1.0, CHARSET, [None])

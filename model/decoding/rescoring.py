"""Rescoring of low-confidence hypotheses over several views of an image and a language model.

The best strings of each view are ranked by their mean probability over all views and by their probability as
texts: n-best rescoring, as in Graves and Jaitly, "Towards End-To-End Speech Recognition with Recurrent Neural
Networks" (ICML 2014).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linewise.model.decoding.beam_search import beam_strings
from linewise.model.decoding.ctc import Array, log_probs_of_strings
from linewise.model.decoding.language_model import LanguageModel
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import Charset

# Confidence below which a reading is rescored. Of such words in scene photographs, three of four are wrong.
RESCORE_THRESHOLD = 0.6

STRINGS_PER_VIEW = 8

# Share of a frame's best posterior below which a class is skipped. At 0.001 the scene sets read the same, in nearly
# twice the time.
MIN_POSTERIOR_SHARE = 0.03

# Weight of the language model's log probability, and a reward for each character, since every further one makes a text
# less probable.
LANGUAGE_WEIGHT = 0.2
LENGTH_REWARD = 0.5


@dataclass(frozen=True)
class RescoredHypothesis:
    """A string of class ids without blanks, its confidence, and the index of the view that supports it most."""

    ids: tuple[int, ...]
    confidence: float
    view: int


def rescore(
    views: Sequence[Array],
    charset: Charset,
    language: LanguageModel | None,
    further: Sequence[tuple[int, ...]] = (),
) -> list[RescoredHypothesis]:
    """Rescore the best strings of all views; the most confident comes first.

    `views` are log posteriors `(T, C)` of one image, each with its own T. A string's confidence, in [0, 1], is
    its share of the probability that any of the strings is right, so strings that no view supports stay improbable.
    Without a language model only the views count. Strings of `further` come last and change nothing before them;
    they share the probability that one of them is right and none of the others.
    """
    per_view = (
        beam_strings(view, charset, Decoding(), width=STRINGS_PER_VIEW, min_posterior_share=MIN_POSTERIOR_SHARE)
        for view in views
    )
    best = dict.fromkeys(ids for strings in per_view for ids in strings)
    hypotheses = [*best, *dict.fromkeys(ids for ids in further if ids not in best)]
    support = log_probs_of_strings(views, hypotheses)
    scores = np.logaddexp.reduce(support, axis=0)
    if language is not None:
        texts = [charset.decode(ids).strip(" ") for ids in hypotheses]
        scores += LANGUAGE_WEIGHT * language.log_probs(texts) + LENGTH_REWARD * np.array([len(t) for t in texts])
    best_right, any_right = (_probability_of_any(support[:, :count]) for count in (len(best), len(hypotheses)))
    shares = _softmax(scores[: len(best)]) * best_right
    if len(hypotheses) > len(best):
        rest = _softmax(scores[len(best) :]) * max(0.0, any_right - best_right)
        shares = np.concatenate([shares, rest.clip(max=shares.min())])
    order = np.lexsort([-scores, np.arange(len(scores)) >= len(best)])  # not by shares, which may all be 0 as floats
    best_views = support.argmax(axis=0)
    return [RescoredHypothesis(hypotheses[i], float(shares[i]), int(best_views[i])) for i in order]


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.exp(scores - scores.max())
    return np.asarray(shares / shares.sum(), np.float64)


def _probability_of_any(support: NDArray[np.float64]) -> float:
    """Probability that any view is right about any string, from log probabilities `(views, strings)`."""
    covered = np.exp(support).sum(axis=1).clip(max=1.0)
    with np.errstate(divide="ignore"):  # the logarithm of 1 - 1 is minus infinity, which is right
        return -float(np.expm1(np.log1p(-covered).sum()))  # exact where a difference to 1 would be 0

"""What one or several looks at a picture and the language say together.

The best strings of each look are weighed by how probable all looks hold them on average, and by how likely they
are as texts: rescoring of n-best lists, as speech recognition does it (for instance Graves and Jaitly, "Towards
End-To-End Speech Recognition with Recurrent Neural Networks", ICML 2014).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from linewise.model.decoding.beam_search import Decoding, string_totals, strings
from linewise.model.decoding.language_model import LanguageModel
from linewise.model.network.charset import Charset

STRINGS = 8  # of each look
# Of a frame's best posterior, that a character must have to be tried: with a thirtieth of it the scene sets read the
# same, in nearly twice the time.
LEAST_SHARE = 0.03

# How much the language counts beside the picture, and what a character makes up for it, since every one more makes a
# text less likely. Chosen on the scene sets: weights of 0.15 to 0.25 differ by 0.2 points there, SVT by 0.8.
LANGUAGE_WEIGHT = 0.2
LENGTH_REWARD = 0.5


@dataclass(frozen=True)
class RescoredHypothesis:
    """A string of class ids without blanks, how probable it is, and which look supports it most."""

    ids: tuple[int, ...]
    confidence: float
    look: int


def rescore(
    looks: Sequence[torch.Tensor], charset: Charset, language: LanguageModel | None
) -> list[RescoredHypothesis]:
    """The strings that some look holds probable, the likeliest first.

    `looks` are log posteriors `(T, C)` of the same picture, each with its own T. A string's confidence, in [0, 1], is
    its share of how probable it is that one of the strings is right, which each look may show by itself: among
    strings that no look believes in, the best one is not sure. Without a language model, the looks decide alone.
    """
    found = (strings(look, charset, Decoding(), width=STRINGS, least_share=LEAST_SHARE) for look in looks)
    rivals = list(dict.fromkeys(ids for several in found for ids in several))
    support = np.array([[total for _, total in string_totals(look, rivals)] for look in looks])
    scores = np.logaddexp.reduce(support, axis=0)
    if language is not None:
        texts = [charset.decode(ids).strip(" ") for ids in rivals]
        scores += LANGUAGE_WEIGHT * language.log_probs(texts) + LENGTH_REWARD * np.array([len(t) for t in texts])
    shares = np.exp(scores - scores.max())
    known = np.exp(support).sum(axis=1).clip(max=1.0)
    shares *= (1 - np.prod(1 - known)) / shares.sum()
    most = support.argmax(axis=0)
    weighed = [
        RescoredHypothesis(ids, float(share), int(look)) for ids, share, look in zip(rivals, shares, most, strict=True)
    ]
    return sorted(weighed, key=lambda one: -one.confidence)

"""Probability that an image holds a given text."""

import math
import unicodedata
from collections.abc import Sequence

import numpy as np

from linewise.model.decoding import ctc
from linewise.model.network.charset import BLANK, STRAIGHT, Charset

MIN_POSTERIOR = 1e-30  # keeps logarithms finite


def text_probabilities(
    logits: Sequence[ctc.Array], texts: Sequence[str], temperature: float, charset: Charset, *, ignore_case: bool
) -> list[float]:
    """Probability in [0, 1] of each text under its logits `(T, C)`.

    The posteriors of characters that count as equal are added. A text with a character outside the alphabet has
    probability 0.
    """

    def normalised(characters: str) -> list[str]:
        return [c.lower() if ignore_case else c for c in characters.translate(STRAIGHT)]

    alphabet = normalised(charset.alphabet)
    classes = {character: number for number, character in enumerate(dict.fromkeys(alphabet), start=1)}
    merged = np.array([BLANK, *(classes[character] for character in alphabet)])  # by class id
    results = []
    for text, frames in zip(texts, logits, strict=True):
        characters = normalised(unicodedata.normalize("NFC", text))
        if not classes.keys() >= set(characters):
            results.append(0.0)
            continue
        posteriors = np.exp(ctc.log_posteriors(frames, temperature))  # (T, C)
        sums = np.zeros((len(classes) + 1, len(posteriors)), np.float32)
        np.add.at(sums, merged, posteriors.T)
        ids = [classes[character] for character in characters]
        log_probs = ctc.log_probs_of_strings([np.log(sums.T.clip(min=MIN_POSTERIOR))], [ids])
        results.append(min(1.0, math.exp(log_probs[0, 0])))
    return results

"""Corpus: the characters and the length of lines, and the same texts for the same seed."""

from collections import Counter
from random import Random

import numpy as np

from linewise.model.synth.sources import corpus


def test_lines_have_words_numbers_and_capitals() -> None:
    random = Random(5)
    lines = [corpus.prose(random, 40) for _ in range(300)] + [corpus.receipt_line(random) for _ in range(300)]
    counted = Counter("".join(lines))
    assert all(counted[c] for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;-é")
    assert 20 <= float(np.median([len(line) for line in lines[:300]])) <= 70


def test_texts_of_a_language_are_the_same_for_the_same_seed() -> None:
    assert corpus.prose(Random(9), 50, "cs") == corpus.prose(Random(9), 50, "cs")

"""The language model, counted on the texts that the renderer writes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray

from linewise.model.decoding.language_model import BITS, BOUNDARY, FIRST, UNKNOWN, LanguageConfig, LanguageModel, plain
from linewise.model.network.charset import Charset
from linewise.model.synth.sources.corpus import collapse_spaces, prose, receipt_line, scene_word

ORDER = 6
# How often an n-gram of three characters or more must have been seen among a million texts to be kept: with half of
# that, the model would be nearly twice as large and read up to a point more, Czech typescript two.
LEAST = 13


def written(count: int, seed: int) -> Counter[str]:
    """How often each text comes up among `count` that the renderer writes; those of another seed are others."""
    random = Random(seed)
    write = random.choices(list(KINDS), weights=list(KINDS.values()), k=count)
    return Counter(plain(collapse_spaces(one(random))) for one in write)


def _prose(random: Random) -> str:
    return prose(random, PROSE)


# Signs, cells and lines of receipts, lines of books and letters, each with its share of the texts; a line of prose
# counts for many words.
KINDS: dict[Callable[[Random], str], int] = {scene_word: 70, receipt_line: 12, _prose: 18}
PROSE = 50  # characters


def estimate(texts: Mapping[str, int], order: int = ORDER, least: int = 1) -> LanguageModel:
    """A language model of `texts`, which are given with how often they occur.

    Raises:
        ValueError: no texts, or an impossible order.
    """
    if not any(texts.values()):
        raise ValueError("a language model cannot be estimated from no texts")
    alphabet = "".join(sorted({*plain(Charset().alphabet), *plain("".join(texts))}))
    config = LanguageConfig(alphabet, order)
    grams, counts = np.arange(1, FIRST + len(alphabet)), np.zeros(FIRST + len(alphabet) - 1)
    shorter, probabilities = grams, np.full(len(grams), 1 / len(grams))  # any character is as likely as another
    kept: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    backoffs: dict[int, NDArray[np.float64]] = {}
    for length, (seen, times) in enumerate(_counted(config, texts), start=1):
        if length == 1:
            counts[seen - 1] = times
        else:
            enough = times >= (least if length > 2 else 1)
            grams, counts = seen[enough], times[enough]
        contexts, inverse = np.unique(grams >> BITS, return_inverse=True)
        total = np.bincount(inverse, counts)
        kinds = np.bincount(inverse, counts > 0)
        suffixes = grams & ((1 << (BITS * (length - 1))) - 1) if length > 1 else grams
        before = probabilities[np.searchsorted(shorter, suffixes)]
        probabilities = (counts + kinds[inverse] * before) / (total + kinds)[inverse]
        if length > 1:
            left = np.ones(len(shorter))
            left[np.searchsorted(shorter, contexts)] = kinds / (total + kinds)
            backoffs[length - 1] = left
        kept.append((grams, probabilities))
        shorter = grams
    backoffs[order] = np.ones(len(shorter))
    together = [torch.from_numpy(np.concatenate([one[side] for one in kept])) for side in (0, 1)]
    discounts = torch.from_numpy(np.concatenate([backoffs[length] for length in range(1, order + 1)]))
    return LanguageModel(config, together[0], together[1].log(), discounts.log())


def bits_per_character(model: LanguageModel, texts: Mapping[str, int]) -> float:
    """Cross-entropy of `texts`, given with how often they occur, in bits for each character and each end."""
    found = model.log_probs(list(texts))
    times = np.array(list(texts.values()))
    lengths = np.array([len(text) + 1 for text in texts])
    return float(-(found * times).sum() / (lengths * times).sum() / np.log(2))


def _counted(
    config: LanguageConfig, texts: Mapping[str, int]
) -> Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """For n-grams of 1, 2, ... characters: those that occur, ascending, and how often."""
    codes = {character: code for code, character in enumerate(config.alphabet, start=FIRST)}
    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for text in texts:
        by_length[len(plain(text))].append(text)
    rows = {
        length: np.array([[BOUNDARY, *(codes.get(c, UNKNOWN) for c in plain(t)), BOUNDARY] for t in several], np.int64)
        for length, several in by_length.items()
    }
    weights = {length: np.array([texts[t] for t in several], np.float64) for length, several in by_length.items()}
    for order in range(1, config.order + 1):
        parts = [(np.zeros(0, np.int64), np.zeros(0))]  # where all texts are shorter, there are none
        for length, row in rows.items():
            # The boundary before a text is a context, but nothing that is ever to be guessed.
            ends = range(max(1, order - 1), row.shape[1])
            for end in ends:
                gram = np.zeros(len(row), np.int64)
                for column in range(end - order + 1, end + 1):
                    gram = (gram << BITS) + row[:, column]
                parts.append((gram, weights[length]))
        grams, inverse = np.unique(np.concatenate([gram for gram, _ in parts]), return_inverse=True)
        yield grams, np.bincount(inverse, np.concatenate([times for _, times in parts])).astype(np.float64)

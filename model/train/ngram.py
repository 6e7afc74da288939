"""Estimation of the character n-gram model from texts that the renderer writes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from random import Random

import numpy as np
from numpy.typing import NDArray

from linewise.model.decoding.language_model import BITS, BOUNDARY, FIRST, UNKNOWN, LanguageConfig, LanguageModel, plain
from linewise.model.network.charset import Charset
from linewise.model.synth.sources.corpus import collapse_spaces, prose, receipt_line, scene_word

ORDER = 6
# Occurrences in a million texts below which an n-gram of three characters or more is dropped. Half of that would
# nearly double the size for up to a point of accuracy.
MIN_COUNT_PER_MILLION = 13
PROSE_CHARACTERS = 50

Counts = tuple[NDArray[np.int64], NDArray[np.float64]]  # n-grams, ascending, and their number of occurrences


def sample_texts(count: int, seed: int) -> Counter[str]:
    """Number of occurrences of each text among `count` texts of the renderer."""
    random = Random(seed)
    writers = random.choices(list(TEXT_SHARES), weights=list(TEXT_SHARES.values()), k=count)
    return Counter(plain(collapse_spaces(write(random))) for write in writers)


def _prose(random: Random) -> str:
    return prose(random, PROSE_CHARACTERS)


# Signs, cells and lines of receipts, lines of books and letters; a line of prose counts for many words.
TEXT_SHARES: dict[Callable[[Random], str], int] = {scene_word: 70, receipt_line: 12, _prose: 18}


def estimate(texts: Mapping[str, int], order: int = ORDER, least: int = 1) -> LanguageModel:
    """Estimate a model from texts and their numbers of occurrences, with Witten-Bell smoothing.

    N-grams of three characters or more with fewer than `least` occurrences are dropped.

    Raises:
        ValueError: no texts, or an impossible order.
    """
    if not any(texts.values()):
        raise ValueError("a language model cannot be estimated from no texts")
    alphabet = "".join(sorted({*plain(Charset().alphabet), *plain("".join(texts))}))
    config = LanguageConfig(alphabet, order)
    shorter, counts = np.arange(1, FIRST + len(alphabet)), np.zeros(FIRST + len(alphabet) - 1)
    probabilities = np.full(len(shorter), 1 / len(shorter))  # before any count, all characters are equally likely
    kept: list[Counts] = []
    backoffs: dict[int, NDArray[np.float64]] = {}
    for length, (seen, times) in enumerate(_count_ngrams(config, texts), start=1):
        if length == 1:
            counts[seen - 1] = times
            grams, occurrences = shorter, counts
        else:
            enough = times >= (least if length > 2 else 1)
            grams, occurrences = seen[enough], times[enough]
        contexts, inverse = np.unique(grams >> BITS, return_inverse=True)
        total = np.bincount(inverse, occurrences)
        kinds = np.bincount(inverse, occurrences > 0)
        suffixes = grams & ((1 << (BITS * (length - 1))) - 1) if length > 1 else grams
        lower_order = probabilities[np.searchsorted(shorter, suffixes)]
        probabilities = (occurrences + kinds[inverse] * lower_order) / (total + kinds)[inverse]
        if length > 1:
            backoff = np.ones(len(shorter))
            backoff[np.searchsorted(shorter, contexts)] = kinds / (total + kinds)
            backoffs[length - 1] = backoff
        kept.append((grams, probabilities))
        shorter = grams
    backoffs[order] = np.ones(len(shorter))
    all_grams = np.concatenate([grams for grams, _ in kept])
    all_probabilities = np.concatenate([values for _, values in kept])
    all_backoffs = np.concatenate([backoffs[length] for length in range(1, order + 1)])
    return LanguageModel(config, all_grams, np.log(all_probabilities), np.log(all_backoffs))


def bits_per_character(model: LanguageModel, texts: Mapping[str, int]) -> float:
    """Cross-entropy of texts, given with their numbers of occurrences, in bits a character; each end counts as one."""
    log_probs = model.log_probs(list(texts))
    occurrences = np.array(list(texts.values()))
    lengths = np.array([len(text) + 1 for text in texts])
    return float(-(log_probs * occurrences).sum() / (lengths * occurrences).sum() / np.log(2))


def _count_ngrams(config: LanguageConfig, texts: Mapping[str, int]) -> Iterable[Counts]:
    """The n-grams of 1, 2, ... `order` characters that occur, one length after the other."""
    codes = {character: code for code, character in enumerate(config.alphabet, start=FIRST)}
    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for text in texts:
        by_length[len(plain(text))].append(text)
    rows = {
        length: np.array([[BOUNDARY, *(codes.get(c, UNKNOWN) for c in plain(t)), BOUNDARY] for t in group], np.int64)
        for length, group in by_length.items()
    }
    weights = {length: np.array([texts[t] for t in group], np.float64) for length, group in by_length.items()}
    for order in range(1, config.order + 1):
        parts: list[Counts] = [(np.zeros(0, np.int64), np.zeros(0))]  # none where all texts are shorter
        for length, row in rows.items():
            # The boundary before a text is a context, never a character to predict.
            for end in range(max(1, order - 1), row.shape[1]):
                gram = np.zeros(len(row), np.int64)
                for column in range(end - order + 1, end + 1):
                    gram = (gram << BITS) + row[:, column]
                parts.append((gram, weights[length]))
        grams, inverse = np.unique(np.concatenate([gram for gram, _ in parts]), return_inverse=True)
        yield grams, np.bincount(inverse, np.concatenate([times for _, times in parts])).astype(np.float64)

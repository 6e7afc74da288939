"""Word lists by language, with tempered word frequencies from `wordfreq`."""

import bisect
import itertools
from dataclasses import dataclass
from functools import cache
from random import Random

from linewise.model.network.charset import Charset

# Languages of wordfreq with their share of the words. English leads, as on signs and receipts.
LANGUAGE_WEIGHTS = {
    "en": 40, "fr": 9, "de": 9, "es": 9, "cs": 8, "da": 5, "it": 4, "pt": 4, "nl": 3, "pl": 4, "sv": 2,
    "nb": 1, "fi": 2, "hu": 3, "ro": 2, "lt": 1, "lv": 1, "sl": 1, "tr": 2, "sk": 1, "ca": 1, "is": 1,
}  # fmt: skip
MAX_WORDS_PER_LANGUAGE = 40_000
# Word weights are frequencies to this power. At 1, "the" fills every line; at 0, rare words do.
FREQUENCY_EXPONENT = 0.55


@dataclass(frozen=True)
class Vocabulary:
    """Words of one language, most frequent first, with cumulative tempered weights."""

    words: tuple[str, ...]
    cumulative_weights: tuple[float, ...]

    def choose(self, random: Random) -> str:
        """Choose a word in lower case by its tempered frequency, in O(log n)."""
        return self.words[bisect.bisect_left(self.cumulative_weights, random.random() * self.cumulative_weights[-1])]

    def choose_uniform(self, random: Random) -> str:
        """Choose a word in lower case; every word is equally likely."""
        return random.choice(self.words)


@cache
def load_vocabulary(language: str) -> Vocabulary:
    """Load the words of a language that the alphabet can write."""
    from wordfreq import get_frequency_dict

    charset, frequencies = Charset(), get_frequency_dict(language)
    words = sorted(
        (w for w in frequencies if len(w) < 24 and not charset.unsupported(w)), key=lambda w: (-frequencies[w], w)
    )[:MAX_WORDS_PER_LANGUAGE]
    weights = [max(frequencies[w], 1e-8) ** FREQUENCY_EXPONENT for w in words]
    return Vocabulary(tuple(words), tuple(itertools.accumulate(weights)))


def choose_language(random: Random) -> str:
    """Choose a language code by its share."""
    return random.choices(list(LANGUAGE_WEIGHTS), weights=list(LANGUAGE_WEIGHTS.values()))[0]

"""Character n-gram language model.

Smoothed after Witten and Bell, "The zero-frequency problem" (IEEE Transactions on Information Theory, 1991), and
stored as in the ARPA format: for each n-gram, the probability of its last character after the others and its back-off
weight as a context. Case and the shape of quotes do not count. `model.train.ngram` estimates it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.charset import STRAIGHT
from linewise.model.network.checkpoint import DEFAULT_PATH as WEIGHTS
from linewise.model.network.checkpoint import CheckpointError, read_checkpoint

DEFAULT_PATH = WEIGHTS.with_name("linewise-language.safetensors")

# An n-gram is one integer: nine bits for each character, the first one highest. No code is 0, so n-grams of
# different lengths differ, and seven characters fit into 63 bits.
BITS = 9
BOUNDARY, UNKNOWN = 1, 2  # codes of either end of a text, and of a character outside the alphabet
FIRST = 3  # code of the alphabet's first character
MAX_ORDER = 63 // BITS


@dataclass(frozen=True)
class LanguageConfig:
    """Alphabet and order of a language model: character `alphabet[i]` has code `i + 3`.

    `order` is the length of the longest n-grams.

    Raises:
        ValueError: the alphabet is empty, too large or repeats a character, or the order is out of range.
    """

    alphabet: str
    order: int

    def __post_init__(self) -> None:
        if not 0 < len(self.alphabet) == len(set(self.alphabet)) < (1 << BITS) - FIRST:
            raise ValueError("the alphabet of a language model must hold 1 to 508 characters, none twice")
        if not 1 <= self.order <= MAX_ORDER:
            raise ValueError(f"the order of a language model must be from 1 to {MAX_ORDER}, not {self.order}")

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(asdict(self))


class LanguageModel:
    """Scores whole texts with n-grams and back-off.

    `grams` are the n-grams, int64 `(N,)` in ascending order; `log_probs` float `(N,)` the natural log
    probability of each n-gram's last character after the others; `backoffs` float `(N,)` the natural log of its
    back-off weight as a context.

    Raises:
        ValueError: tensors of other shapes, n-grams out of order, or a missing single character.
    """

    def __init__(
        self, config: LanguageConfig, grams: NDArray[Any], log_probs: NDArray[Any], backoffs: NDArray[Any]
    ) -> None:
        self.config = config
        if grams.ndim != 1 or not grams.shape == log_probs.shape == backoffs.shape:
            raise ValueError("the tensors of a language model must be vectors of one length")
        self._grams = grams.astype(np.int64)
        self._log_probs, self._backoffs = log_probs.astype(np.float32), backoffs.astype(np.float32)
        singles = FIRST + len(config.alphabet)
        if (np.diff(self._grams) <= 0).any() or not np.array_equal(self._grams[: singles - 1], np.arange(1, singles)):
            raise ValueError("the n-grams of a language model must ascend and begin with every single character")
        self._codes = {character: code for code, character in enumerate(config.alphabet, start=FIRST)}

    def __len__(self) -> int:
        return len(self._grams)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, as the constructor takes them."""
        return {"grams": self._grams, "log_probs": self._log_probs, "backoffs": self._backoffs}

    def log_probs(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Natural log probability of each text, including its end: float64 `(len(texts),)`."""
        windows_by_text = [self._windows(text) for text in texts]
        # Texts that compete for one picture have most of their windows in common.
        windows = list({window for windows in windows_by_text for window in windows})
        known = dict(zip(windows, self._window_log_probs(np.array(windows, np.int64)).tolist(), strict=True))
        return np.array([sum(known[window] for window in windows) for windows in windows_by_text], np.float64)

    def _windows(self, text: str) -> list[int]:
        """For each character and the end of a text, its code after up to `order - 1` before it, as one integer."""
        window, windows, mask = BOUNDARY, [], (1 << BITS * self.config.order) - 1
        for character in plain(text):
            window = window << BITS & mask | self._codes.get(character, UNKNOWN)
            windows.append(window)
        windows.append(window << BITS & mask | BOUNDARY)
        return windows

    def _window_log_probs(self, windows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural log probability of the last code of each window `(N,)` after the others."""
        lengths = np.arange(1, self.config.order + 1)[:, None]
        masks = np.array([[(1 << BITS * length) - 1] for length in range(1, self.config.order + 1)])
        # Grams of 1 to `order` codes that end with the window, and contexts of as many that end one code before.
        grams = np.stack([windows & masks, windows >> BITS & masks])
        index = np.searchsorted(self._grams, grams.ravel()).clip(max=len(self._grams) - 1).reshape(grams.shape)
        exists = self._grams[index] == grams
        exists &= grams > masks >> BITS  # else a window at the beginning of a text is shorter
        longest = (lengths * exists[0]).max(axis=0)  # at least 1: every single character is a gram
        log_probs = self._log_probs[index[0, longest - 1, np.arange(len(windows))]]
        # Back off from each longer gram, whose context is one character shorter.
        passed = exists[1] & (lengths >= longest)
        passed[-1] = False
        return np.asarray(log_probs + np.where(passed, self._backoffs[index[1]], 0.0).sum(axis=0), np.float64)


def plain(text: str) -> str:
    """Normalise a text for the model: lower case, straight quotes."""
    return text.translate(STRAIGHT).lower()


def load(path: str | os.PathLike[str] | None = None) -> LanguageModel:
    """Load the language model of a file, by default the shipped one.

    Raises:
        CheckpointError: the file is missing, damaged, or not a language model.
    """
    path = DEFAULT_PATH if path is None else Path(path)
    text, tensors, _ = read_checkpoint(path)
    try:
        return LanguageModel(LanguageConfig(**json.loads(text)), **tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no language model: {error}") from error

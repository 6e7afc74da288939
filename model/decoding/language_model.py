"""How likely a text is before any picture of it is seen: a language model over characters.

N-grams of characters with Witten-Bell smoothing ("The zero-frequency problem", IEEE Transactions on
Information Theory, 1991), stored as in the ARPA format: the probability of each n-gram's last character after
the others, and by how much a context discounts what was never seen after it. Case and the shape of quotes do
not count. `model.train.ngram` counts the n-grams.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from linewise.model.network.charset import STRAIGHT
from linewise.model.network.checkpoint import DEFAULT_PATH as WEIGHTS
from linewise.model.network.checkpoint import CheckpointError, read_checkpoint

DEFAULT_PATH = WEIGHTS.with_name("linewise-language.safetensors")

# An n-gram is one number: nine bits for each character, the first one highest. No code is 0, so that n-grams of
# all lengths differ and seven characters fit into 63 bits.
BITS = 9
BOUNDARY, UNKNOWN = 1, 2  # before and after a text; a character that the model was not made for
FIRST = 3  # of the alphabet
LONGEST = 63 // BITS


@dataclass(frozen=True)
class LanguageConfig:
    """What the numbers of a language model stand for: character `alphabet[i]` has code `i + 3`.

    `order` is the length of the longest n-grams.

    Raises:
        ValueError: an alphabet that is empty, repeats a character or has no codes for all, or an impossible order.
    """

    alphabet: str
    order: int

    def __post_init__(self) -> None:
        if not 0 < len(self.alphabet) == len(set(self.alphabet)) < (1 << BITS) - FIRST:
            raise ValueError("the alphabet of a language model must hold 1 to 508 characters, none twice")
        if not 1 <= self.order <= LONGEST:
            raise ValueError(f"the order of a language model lies from 1 to {LONGEST}, not at {self.order}")

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(asdict(self))


class LanguageModel:
    """Log probabilities of whole texts.

    `grams` are the n-grams, int64 `(N,)` in ascending order, `log_probs` float `(N,)` the natural logarithm of the
    probability of the last character after the others, `backoffs` float `(N,)` that of the share which the n-gram, as
    a context, leaves to what was never seen after it.

    Raises:
        ValueError: tensors of other shapes, n-grams out of order, or one of the single characters missing.
    """

    def __init__(
        self, config: LanguageConfig, grams: torch.Tensor, log_probs: torch.Tensor, backoffs: torch.Tensor
    ) -> None:
        self.config = config
        if grams.ndim != 1 or not grams.shape == log_probs.shape == backoffs.shape:
            raise ValueError("the tensors of a language model must be vectors of one length")
        self._grams = grams.to(torch.int64).cpu().numpy()
        self._log_probs = log_probs.float().cpu().numpy()
        self._backoffs = backoffs.float().cpu().numpy()
        singles = FIRST + len(config.alphabet)
        if (np.diff(self._grams) <= 0).any() or not np.array_equal(self._grams[: singles - 1], np.arange(1, singles)):
            raise ValueError("the n-grams of a language model must ascend and begin with every single character")
        self._codes = {character: code for code, character in enumerate(config.alphabet, start=FIRST)}

    def __len__(self) -> int:
        return len(self._grams)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tensors by name, as the constructor takes them."""
        tensors = {"grams": self._grams, "log_probs": self._log_probs, "backoffs": self._backoffs}
        return {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}

    def log_probs(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The natural logarithm of each text's probability, its end included: float64 `(len(texts),)`."""
        rows = [self._encoded(text) for text in texts]
        lengths = np.array([len(row) for row in rows])
        codes = np.zeros((len(rows), int(lengths.max(initial=self.config.order))), np.int64)
        for row, encoded in zip(codes, rows, strict=True):
            row[: len(encoded)] = encoded
        places, known = self._found(codes)
        total = np.zeros(codes.shape)
        settled = np.zeros(codes.shape, bool)
        settled[:, 0] = True  # nobody has to guess that a text begins
        settled |= np.arange(codes.shape[1]) >= lengths[:, None]
        for order in range(self.config.order, 0, -1):
            hit = known[order] & ~settled
            total[hit] += self._log_probs[places[order][hit]]
            settled |= hit
            if order > 1:  # the context is one character shorter and ends one character before
                missed = known[order - 1][:, :-1] & ~settled[:, 1:]
                total[:, 1:][missed] += self._backoffs[places[order - 1][:, :-1][missed]]
        return np.asarray(total.sum(axis=1), np.float64)

    def _encoded(self, text: str) -> list[int]:
        return [BOUNDARY, *(self._codes.get(character, UNKNOWN) for character in plain(text)), BOUNDARY]

    def _found(self, codes: NDArray[np.int64]) -> tuple[dict[int, NDArray[np.int64]], dict[int, NDArray[np.bool_]]]:
        """By order, where the n-gram that ends at each of the codes `(B, L)` stands, and whether it does."""
        places, known, gram = {}, {}, codes
        for order in range(1, self.config.order + 1):
            if order > 1:
                longer = np.zeros_like(codes)
                first = codes[:, : codes.shape[1] - order + 1] << (BITS * (order - 1))
                longer[:, order - 1 :] = first + gram[:, order - 1 :]
                gram = longer
            place = np.searchsorted(self._grams, gram).clip(max=len(self._grams) - 1)
            places[order], known[order] = place, self._grams[place] == gram
        return places, known


def plain(text: str) -> str:
    """The text as the model sees it: in lower case, with straight quotes."""
    return text.translate(STRAIGHT).lower()


def load(path: str | os.PathLike[str] | None = None) -> LanguageModel:
    """The language model of a file, by default the shipped one.

    Raises:
        CheckpointError: missing, damaged, or no language model.
    """
    path = DEFAULT_PATH if path is None else Path(path)
    text, tensors, _ = read_checkpoint(path)
    try:
        return LanguageModel(LanguageConfig(**json.loads(text)), **tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no language model: {error}") from error

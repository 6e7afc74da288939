"""Character set: text to class ids and back; class 0 is the CTC blank."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

BLANK = 0

ASCII = "".join(chr(code) for code in range(0x20, 0x7F))
LATIN_1_LETTERS = "".join(chr(code) for code in range(0xC0, 0x100) if code not in (0xD7, 0xF7))
# U+0149 is deprecated by Unicode in favour of two characters.
LATIN_EXTENDED_A = "".join(chr(code) for code in range(0x100, 0x180) if code != 0x149)
# Romanian's comma-below letters lie outside Latin Extended-A, capital sharp s beside German's.
MORE_LETTERS = "ȘșȚțẞƒ"
SIGNS = "‘’‚“”„‹›«»–—…•·¿¡€£¥¢¤§¶©®™°ªº¹²³±×÷−½¼¾⅛⅜⅝⅞⁄‰µ¬¦†‡№√≈≠≤≥←↑→↓✓"

DEFAULT_ALPHABET = ASCII + LATIN_1_LETTERS + LATIN_EXTENDED_A + MORE_LETTERS + SIGNS

# Typographic quotes to the straight ones that most users of OCR text expect.
STRAIGHT = str.maketrans({"‘": "'", "’": "'", "‚": ",", "“": '"', "”": '"', "„": '"'})


class UnsupportedCharacterError(ValueError):
    """A text contains a character outside the alphabet."""


@dataclass(frozen=True)
class Charset:
    """Fixed alphabet: character `alphabet[i]` is class `i + 1`, class 0 is the blank.

    Raises:
        ValueError: the alphabet is empty or repeats a character.
    """

    alphabet: str = DEFAULT_ALPHABET
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ids = {character: index for index, character in enumerate(self.alphabet, start=1)}
        if not ids or len(ids) != len(self.alphabet):
            raise ValueError("the alphabet must hold at least one character and none twice")
        object.__setattr__(self, "_ids", ids)

    @property
    def classes(self) -> int:
        """Number of classes, the blank included."""
        return len(self.alphabet) + 1

    def __contains__(self, character: str) -> bool:
        return character in self._ids

    def unsupported(self, text: str) -> str:
        """Characters of `text` outside the alphabet, each once, in order of appearance."""
        return "".join(dict.fromkeys(c for c in text if c not in self._ids))

    def encode(self, text: str) -> list[int]:
        """Class ids of `text`, each in [1, classes).

        Raises:
            UnsupportedCharacterError: a character is not in the alphabet.
        """
        unsupported = self.unsupported(text)
        if unsupported:
            raise UnsupportedCharacterError(f"not in the alphabet: {unsupported!r}")
        return [self._ids[character] for character in text]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of class ids that are already collapsed and free of blanks."""
        return "".join(self.alphabet[index - 1] for index in ids)

    def ids_of(self, characters: Sequence[str]) -> list[int]:
        """Class ids of those `characters` that are in the alphabet."""
        return [self._ids[c] for c in characters if c in self._ids]

"""Lexicon constraint for the beam search."""

import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

from linewise.model.network.charset import STRAIGHT, Charset

# Distinct ranges `(first, last + 1, characters matched)` of the sorted entries that a prefix may still become, in
# ascending order. Each is one way to split the prefix into entries: at most one per word of an entry, plus one.
State = tuple[tuple[int, int, int], ...]

MAX_CACHED_STATES = 4096  # bounds the memory of a lexicon that is used for many lines


class Lexicon:
    """Entries of which a text consists: one of them, or several with single spaces between.

    Entries match exactly once composed (NFC), except that typographic quotes equal straight ones. They are kept
    sorted, and the characters that may follow a prefix are found by bisection.

    Raises:
        ValueError: no entry, or characters that the alphabet lacks.
    """

    def __init__(self, entries: Iterable[str], charset: Charset) -> None:
        composed = (unicodedata.normalize("NFC", entry) for entry in entries)
        texts = {" ".join(entry.split()).translate(STRAIGHT) for entry in composed} - {""}
        missing = charset.unsupported("".join(sorted(texts)))
        if missing:
            raise ValueError(f"the lexicon has characters that the model cannot write: {missing[:20]}")
        if not texts:
            raise ValueError("the lexicon has no entry")
        self._entries = sorted(texts)
        self._letters = ["", *charset.alphabet.translate(STRAIGHT)]  # by class id
        self._ids: defaultdict[str, list[int]] = defaultdict(list)
        for label, letter in enumerate(self._letters):
            self._ids[letter].append(label)
        self._first: State = ((0, len(self._entries), 0),)
        self._following: dict[State, dict[int, State]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def start(self) -> State:
        """The state before the first character."""
        return self._first

    def following(self, state: State) -> dict[int, State]:
        """By class id, the state after each character that may come next."""
        following = self._following.get(state)
        if following is None:
            if len(self._following) >= MAX_CACHED_STATES:
                self._following.clear()
            following = self._following[state] = self._find_following(state)
        return following

    def _find_following(self, state: State) -> dict[int, State]:
        # Sets, because ways to split a prefix meet again at the next space: as lists they would grow exponentially.
        ranges_by_letter: defaultdict[str, set[tuple[int, int, int]]] = defaultdict(set)
        for start, end, depth in state:
            first = start
            while first < end:
                entry = self._entries[first]
                if len(entry) == depth:  # a complete entry: the next one may begin after a space
                    ranges_by_letter[" "].update(self._first)
                    first += 1
                    continue
                letter = entry[depth]
                after = bisect_right(self._entries, letter, first, end, key=lambda other: other[depth : depth + 1])
                ranges_by_letter[letter].add((first, after, depth + 1))
                first = after
        states = {letter: tuple(sorted(ranges)) for letter, ranges in ranges_by_letter.items()}
        return {label: state for letter, state in states.items() for label in self._ids[letter]}

    def is_complete(self, state: State) -> bool:
        """Whether the text may end here."""
        return any(len(self._entries[first]) == depth for first, end, depth in state if first < end)

    def completions(self, state: State, limit: int) -> list[str]:
        """Remaining characters of up to `limit` entries that begin with the current prefix."""
        missing = [
            entry[depth:] for first, end, depth in state for entry in self._entries[first : min(end, first + limit)]
        ]
        return missing[:limit]

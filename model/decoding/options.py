"""Decoding options of one image."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from linewise.model.decoding.lexicon import Lexicon
from linewise.model.network.charset import Charset


@dataclass(frozen=True)
class Decoding:
    """Number of alternatives, allowed characters and lexicon.

    `allowed` are class ids; None allows all of them.
    """

    alternatives: int = 0
    allowed: frozenset[int] | None = None
    lexicon: Lexicon | None = None

    @property
    def constrained(self) -> bool:
        """Whether the options exclude any text."""
        return self.allowed is not None or self.lexicon is not None


def build_decoding(
    model_charset: Charset,
    alternatives: int = 0,
    charset: str | None = None,
    charset_exclude: str = "",
    lexicon: Iterable[str] | None = None,
) -> Decoding | None:
    """Options for a model's characters, or None for the default decoding; arguments as in `Reader.decoding`.

    Characters are composed (NFC), as in the alphabet.

    Raises:
        ValueError: fewer than 0 alternatives, a lexicon that is a single string, a character that the model cannot
            write, or constraints that exclude every character.
    """
    if alternatives < 0:
        raise ValueError(f"alternatives must be at least 0, not {alternatives}")
    if isinstance(lexicon, str):
        raise ValueError('lexicon must be a list of texts, not one string: ["..."]')
    charset = None if charset is None else unicodedata.normalize("NFC", charset)
    charset_exclude = unicodedata.normalize("NFC", charset_exclude)
    for name, characters in (("charset", charset or ""), ("charset_exclude", charset_exclude)):
        if unsupported := model_charset.unsupported(characters):
            raise ValueError(f"{name} has characters that the model cannot write: {unsupported[:20]}")
    allowed = None
    if charset is not None or charset_exclude:
        kept = set(model_charset.alphabet if charset is None else charset) - set(charset_exclude)
        if not kept - {" "}:
            raise ValueError("charset and charset_exclude leave no character that may be read")
        allowed = frozenset(model_charset.encode("".join(kept)))
    entries = None if lexicon is None else Lexicon(lexicon, model_charset)
    if not alternatives and allowed is None and entries is None:
        return None
    return Decoding(alternatives, allowed, entries)

"""Alphabet and class ids."""

from __future__ import annotations

import pytest

from linewise.model.network.charset import BLANK, DEFAULT_ALPHABET, STRAIGHT, Charset, UnsupportedCharacterError


def test_text_survives_encoding_and_decoding() -> None:
    charset = Charset()
    text = "Œuvre à 12,50 € – Żółć, Đà, Șapte “½” — Straße"
    assert charset.decode(charset.encode(text)) == text


def test_no_character_gets_the_class_of_the_blank() -> None:
    ids = Charset().encode(DEFAULT_ALPHABET)
    assert BLANK not in ids
    assert ids == list(range(1, Charset().classes))


def test_the_alphabet_holds_ascii_european_letters_and_signs() -> None:
    wanted = "".join(map(chr, range(0x20, 0x7F))) + "ÀÿŁőžŞİ‘’“”–—…•€£¥¢§©®™°±×÷½¼¾«»¿¡"
    assert Charset().unsupported(wanted) == ""


def test_a_character_outside_the_alphabet_is_named() -> None:
    with pytest.raises(UnsupportedCharacterError, match="жя"):
        Charset().encode("aжbяж")


def test_unsupported_characters_are_listed_once_in_order() -> None:
    assert Charset("ab").unsupported("xaybx") == "xy"


@pytest.mark.parametrize("alphabet", ["", "aba"])
def test_an_empty_or_repeating_alphabet_is_refused(alphabet: str) -> None:
    with pytest.raises(ValueError, match="alphabet"):
        Charset(alphabet)


def test_ids_of_skips_what_the_alphabet_lacks() -> None:
    assert Charset("abc").ids_of(["c", "x", "a"]) == [3, 1]


def test_straight_marks_replace_typographic_ones_one_for_one() -> None:
    assert "“don’t” „so‘".translate(STRAIGHT) == '"don\'t" "so\''
    assert all(isinstance(mark, str) and len(mark) == 1 for mark in STRAIGHT.values())

"""Language model: probabilities, estimation, and files that are rejected."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from linewise.model.decoding.language_model import (
    DEFAULT_PATH,
    LanguageConfig,
    LanguageModel,
    load,
    plain,
)
from linewise.model.network.charset import DEFAULT_ALPHABET
from linewise.model.network.checkpoint import DEFAULT_PATH as WEIGHTS
from linewise.model.network.checkpoint import CheckpointError, save
from linewise.model.train.ngram import bits_per_character, estimate, sample_texts
from linewise.service.cli import main

TEXTS = Counter({"abba": 6, "baba": 3, "ab": 5, "b": 2, "caba": 1, "aab ba": 4, "": 1})


def by_hand(texts: Counter[str], alphabet: str, order: int, least: int, text: str) -> float:
    """Log probability of a text by interpolated Witten-Bell smoothing, from counts in dictionaries."""
    counts: list[Counter[str]] = [Counter() for _ in range(order)]
    for seen, times in texts.items():
        bounded = f"^{seen}^"
        for end, length in itertools.product(range(1, len(bounded)), range(1, order + 1)):
            if end - length + 1 >= 0:
                counts[length - 1][bounded[end - length + 1 : end + 1]] += times
    for length in range(3, order + 1):
        counts[length - 1] = Counter({gram: n for gram, n in counts[length - 1].items() if n >= least})

    def probability(context: str, character: str) -> float:
        shorter = probability(context[1:], character) if context else 1 / (len(alphabet) + 2)
        after = {gram: n for gram, n in counts[len(context)].items() if gram[:-1] == context}
        total, kinds = sum(after.values()), len(after)
        return (after.get(context + character, 0) + kinds * shorter) / (total + kinds) if total else shorter

    bounded = f"^{text}^"
    return sum(
        math.log(probability(bounded[max(0, end - order + 1) : end], bounded[end])) for end in range(1, len(bounded))
    )


@pytest.mark.parametrize(("order", "least"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3)])
def test_it_is_the_model_of_the_book(order: int, least: int) -> None:
    model = estimate(TEXTS, order, least)
    texts = ["abba", "ab", "", "b", "bbbbbbbbbb", "cab", "aab ba", "zebra", "baba ab", "a" * 40]
    expected = [by_hand(TEXTS, model.config.alphabet, order, least, text) for text in texts]
    assert model.log_probs(texts) == pytest.approx(np.array(expected), rel=1e-5)


def test_each_text_is_judged_by_itself() -> None:
    model = estimate(TEXTS)
    texts = ["abba", "b", "", "abbaabbaabba"]
    assert model.log_probs(texts) == pytest.approx(np.array([model.log_probs([text])[0] for text in texts]))
    assert model.log_probs([]).shape == (0,)


def test_texts_may_be_shorter_than_the_n_grams() -> None:
    model = estimate({"a": 2, "": 1}, order=6)
    assert model.log_probs(["a", "aa"]) == pytest.approx(
        [by_hand(Counter({"a": 2, "": 1}), model.config.alphabet, 6, 1, text) for text in ("a", "aa")], rel=1e-5
    )


def test_case_and_the_shape_of_quotes_do_not_count() -> None:
    model = estimate({"it's": 5, "him": 3})
    likely = model.log_probs(["it's", "IT’S", "It‘s", "iths"])
    assert likely[0] == likely[1] == likely[2] > likely[3]


def test_characters_that_it_does_not_know_are_unlikely_but_not_impossible() -> None:
    model = estimate(TEXTS)
    assert "Ж" not in model.config.alphabet
    known, unknown = model.log_probs(["ab", "Жb"])
    assert -math.inf < unknown < known


@pytest.mark.slow
def test_more_of_the_same_texts_fit_better_than_other_texts() -> None:
    model = estimate(sample_texts(3000, seed=1))
    signs, other = sample_texts(300, seed=2), Counter({text[::-1]: n for text, n in sample_texts(300, seed=2).items()})
    assert bits_per_character(model, signs) < bits_per_character(model, other)
    assert bits_per_character(model, signs) < bits_per_character(estimate(sample_texts(100, seed=1)), signs)


def test_counting_again_gives_the_same_model() -> None:
    one, other = estimate(sample_texts(500, seed=3)), estimate(sample_texts(500, seed=3))
    assert all(np.array_equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert not np.array_equal(one.state_dict()["grams"], estimate(sample_texts(500, seed=4)).state_dict()["grams"])


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    model = estimate(TEXTS)
    save(model, tmp_path / "language.safetensors")
    again = load(tmp_path / "language.safetensors")
    assert again.config == model.config and len(again) == len(model)
    assert again.log_probs(list(TEXTS)) == pytest.approx(model.log_probs(list(TEXTS)), abs=0.05)


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot open"):
        load(tmp_path / "none.safetensors")
    if WEIGHTS.is_file():
        with pytest.raises(CheckpointError, match="holds no language model"):
            load(WEIGHTS)


@pytest.mark.parametrize("alphabet", ["", "aa", "".join(map(chr, range(0x4E00, 0x4E00 + 509)))])
def test_impossible_alphabets_are_refused(alphabet: str) -> None:
    with pytest.raises(ValueError, match="1 to 508"):
        LanguageConfig(alphabet, 3)


@pytest.mark.parametrize("order", [0, 8])
def test_impossible_orders_are_refused(order: int) -> None:
    with pytest.raises(ValueError, match=r"from 1 to 7"):
        estimate(TEXTS, order)


def test_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="no texts"):
        estimate({})


def test_tensors_that_are_no_model_are_refused() -> None:
    grams, values = np.arange(1, 5), np.zeros(4)
    config = LanguageConfig("ab", 2)
    assert len(LanguageModel(config, grams, values, values)) == 4
    for wrong in (grams[::-1], grams + 1, np.array([1, 2, 3, 5])):
        with pytest.raises(ValueError, match="must ascend"):
            LanguageModel(config, wrong, values, values)
    with pytest.raises(ValueError, match="one length"):
        LanguageModel(config, grams, values[:3], values)


@pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason=f"no {DEFAULT_PATH.name} in this tree")
def test_the_shipped_one_knows_words_and_numbers() -> None:
    model = load()
    assert DEFAULT_PATH.stat().st_size < 6e6
    assert set(plain(DEFAULT_ALPHABET)) <= set(model.config.alphabet)
    pairs = {"Billboards": "Biliboards", "help": "heip", "INDIA": "INDlA", "Kennedy": "Kennedv", "$12.50": "$I2.S0"}
    for right, wrong in pairs.items():
        likely = model.log_probs([right, wrong])
        assert likely[0] > likely[1] + 2, (right, wrong)


def test_it_is_made_by_one_command(tmp_path: Path) -> None:
    out = tmp_path / "language.safetensors"
    result = CliRunner().invoke(main.app, ["language", str(out), "--texts", "2000"])
    assert result.exit_code == 0 and "n-grams of up to 6 characters" in result.output
    assert len(load(out)) == len(estimate(sample_texts(2000, seed=0), least=1))
    lost = CliRunner().invoke(main.app, ["language", str(tmp_path / "none" / "x.safetensors"), "--texts", "50"])
    assert lost.exit_code == 1 and "cannot be written" in lost.output

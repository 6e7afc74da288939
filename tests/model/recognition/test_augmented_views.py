"""Augmented views of low-confidence words, and their rescoring."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from linewise.model import Reader
from linewise.model.decoding.ctc import greedy
from linewise.model.decoding.rescoring import RESCORE_THRESHOLD, rescore
from linewise.model.explain import explain
from linewise.model.network.charset import STRAIGHT, Charset
from linewise.model.recognition.augmented_views import (
    MAX_VIEW_HEIGHT_PX,
    MAX_WORD_ASPECT_RATIO,
    apply_view,
    augmented_views,
    is_word,
)
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.rotation import ROTATED_ASPECT_RATIO, rotated
from linewise.model.train.ngram import estimate
from tests.model.conftest import TINY, patches, small_network


@pytest.fixture
def unsure() -> Reader:
    """A recogniser with random weights: every confidence is low, and each view has other probable texts."""
    network = small_network(1, dataclasses.replace(TINY, alphabet="abcdefghij "))
    with torch.no_grad():  # without it, every character is as probable as another, and a beam has much to try
        network.head.weight *= 20
    return Reader(network)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of images in each call of the network."""
    counts: list[int] = []
    logits = Reader._logits

    def counted(self: Reader, images: list[Image]) -> Any:
        counts.append(len(images))
        return logits(self, images)

    monkeypatch.setattr(Reader, "_logits", counted)
    return counts


def words(count: int) -> list[Image]:
    rng = np.random.default_rng(7)
    return [patches(rng, (int(rng.integers(20, 60)), int(rng.integers(60, 160)))) for _ in range(count)]


def test_a_word_has_a_cropped_a_stretched_and_a_second_colour_view() -> None:
    picture = words(1)[0]
    height, width = picture.shape[:2]
    views = dict(augmented_views(picture))
    assert list(views) == ["closer", "wider", "by other colours"]
    rim = round(height / 10)
    assert np.array_equal(views["closer"], picture[rim:-rim])
    assert views["wider"].shape == (height, round(1.3 * width), 3)
    assert views["by other colours"].shape == (height, width)
    for name, view in views.items():
        assert np.array_equal(apply_view(picture, name), view)
    assert apply_view(picture, "") is picture


def test_a_large_photograph_is_reduced_before_its_views_are_made() -> None:
    large = patches(np.random.default_rng(0), (1000, 3000))
    views = dict(augmented_views(large))
    assert {view.shape[0] for view in views.values()} == {
        MAX_VIEW_HEIGHT_PX,
        MAX_VIEW_HEIGHT_PX - 2 * round(MAX_VIEW_HEIGHT_PX / 10),
    }
    assert views["closer"].shape[1] == 384
    for name, view in views.items():
        assert np.array_equal(apply_view(large, name), view)


def test_the_other_colours_show_what_the_first_axis_hides() -> None:
    wall, letter, shade = (235, 230, 225), (210, 25, 35), (40, 40, 45)
    picture = np.full((32, 96, 3), wall, np.uint8)
    picture[4:28, 40:70] = shade
    picture[6:26, 45:60] = letter
    view = dict(augmented_views(picture))["by other colours"].astype(int)
    assert abs(view[16, 50] - view[16, 65]) > 60 and abs(view[16, 50] - view[1, 1]) > 60


@pytest.mark.parametrize("grey", [True, False])
def test_scans_without_colours_or_with_those_of_noise_are_read_once(grey: bool) -> None:
    rng = np.random.default_rng(0)
    black = np.repeat(rng.integers(0, 2, (32, 96, 1)) * 200, 3, axis=2)
    noisy = np.clip(black + rng.normal(0, 4, black.shape), 0, 255)
    assert not list(augmented_views(np.asarray(black[:, :, 0] if grey else noisy, np.uint8)))
    assert not list(augmented_views(np.full((32, 96, 3), (200, 30, 30), np.uint8)))


def test_lines_have_no_views_and_low_images_no_cropped_one() -> None:
    rng = np.random.default_rng(0)
    assert list(augmented_views(patches(rng, (20, int(20 * MAX_WORD_ASPECT_RATIO)))))
    assert not list(augmented_views(patches(rng, (20, int(20 * MAX_WORD_ASPECT_RATIO) + 1))))
    low = patches(rng, (9, 40))
    assert [name for name, _ in augmented_views(low)] == ["wider", "by other colours"]
    with pytest.raises(ValueError, match=r"too low for the view .closer."):
        apply_view(low, "closer")


def test_a_reading_is_rescored_over_all_views(unsure: Reader) -> None:
    won: Counter[str] = Counter()
    charset = Charset(unsure.config.alphabet)
    pictures = [picture for picture in words(40) if is_word(picture)]
    for picture, reading in zip(pictures, unsure.read(pictures), strict=True):
        views = {"": picture} | dict(augmented_views(picture))
        log_probs = [
            (logits / unsure.config.temperature).log_softmax(-1).numpy()
            for logits in unsure.logits(list(views.values()))
        ]
        best = rescore(log_probs, charset, None)[0]
        assert reading.text == charset.decode(best.ids).translate(STRAIGHT).strip(" ")
        assert reading.confidence == pytest.approx(best.confidence, abs=1e-4)
        assert reading.look == list(views)[best.view]
        assert all(0 <= one.start < one.end <= picture.shape[1] + 1e-6 for one in reading.characters)
        won[reading.look] += 1
    assert won["by other colours"] > 5 and won[""] > 5


def test_a_confident_reading_is_read_once(unsure: Reader, passes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    picture = words(1)[0]
    (sure,) = greedy(unsure.logits([picture])[0][None].numpy(), unsure.config.temperature)
    for least, views in ((sure.confidence, 1), (sure.confidence * 1.01, 4)):
        passes.clear()
        monkeypatch.setattr("linewise.model.decoding.hypotheses.RESCORE_THRESHOLD", least)
        unsure.read([picture])
        assert sum(passes) == views


def test_lines_and_words_without_colours_are_read_once(unsure: Reader, passes: list[int]) -> None:
    rng = np.random.default_rng(0)
    pictures = [patches(rng, (20, 200)), words(1)[0][:, :, 0].copy()]
    readings = unsure.read(pictures)
    assert all(one.confidence < RESCORE_THRESHOLD and not one.look for one in readings)
    assert sum(passes) == 2


def test_the_language_decides_what_the_picture_leaves_open(unsure: Reader) -> None:
    picture = words(1)[0][:, :, 0].copy()
    (alone,) = unsure.read([picture], [unsure.decoding(alternatives=7)])
    unsure.language = estimate({alone.alternatives[0].text: 10**9})
    assert unsure.read([picture])[0].text == alone.alternatives[0].text


def test_lines_are_rescored_with_the_language_model_too(unsure: Reader) -> None:
    line = patches(np.random.default_rng(7), (32, 300))
    unsure.language = estimate({"": 1})
    (first,) = unsure.read([line], [unsure.decoding(alternatives=5)])
    target = first.alternatives[-1].text
    unsure.language = estimate({target: 10**9})
    (rescored,) = unsure.read([line])
    likely = unsure.language.log_probs([rescored.text, first.text])
    assert rescored.text != first.text and likely[0] > likely[1]


def test_a_constrained_reading_is_read_once(unsure: Reader, passes: list[int]) -> None:
    pictures = words(12)
    free = [unsure.decoding(alternatives=2)] * len(pictures)
    held = [unsure.decoding(charset="ab"), unsure.decoding(charset_exclude="j"), unsure.decoding(lexicon=["ab"])]
    assert any(reading.look for reading in unsure.read(pictures, free))
    passes.clear()
    assert not any(reading.look for one in held for reading in unsure.read(pictures, [one] * len(pictures)))
    assert sum(passes) == len(held) * len(pictures)


def test_alternatives_are_rescored_as_well(unsure: Reader) -> None:
    for reading in unsure.read(words(6), [unsure.decoding(alternatives=5)] * 6):
        shares = [reading.confidence, *(one.confidence for one in reading.alternatives)]
        assert len(shares) == 6 and shares == sorted(shares, reverse=True) and sum(shares) <= 1 + 1e-9
        assert len({reading.text, *(one.text for one in reading.alternatives)}) == 6


def test_a_rescored_reading_does_not_depend_on_its_batch(unsure: Reader) -> None:
    reader, pictures = unsure, words(24)
    together = reader.read(pictures)
    assert any(reading.look for reading in together)
    for picture, reading in zip(pictures, together, strict=True):
        (alone,) = reader.read([picture])
        assert (alone.text, alone.look) == (reading.text, reading.look)
        assert alone.confidence == pytest.approx(reading.confidence, abs=1e-4)


def test_the_views_of_a_line_on_its_side_are_rotated(unsure: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    # The last rotation, however confident it is.
    monkeypatch.setattr("linewise.model.recognition.reader.most_confident", lambda readings: len(readings) - 1)
    again: Counter[str] = Counter()
    for picture in words(40):
        on_its_side = rotated(picture, 90)
        if on_its_side.shape[0] < ROTATED_ASPECT_RATIO * on_its_side.shape[1]:
            continue
        (reading,) = unsure.read([on_its_side])
        upright = np.ascontiguousarray(rotated(on_its_side, reading.turn))
        (other,) = unsure.read([upright])
        assert reading.turn and (reading.text, reading.look) == (other.text, other.look)
        assert reading.confidence == pytest.approx(other.confidence, abs=1e-4)
        again[reading.look] += 1
        assert all(one.end <= upright.shape[1] + 1e-6 for one in reading.characters)
    assert again["by other colours"] and again[""]


def test_an_explanation_shows_the_view_that_won(unsure: Reader) -> None:
    for picture in words(40):
        (reading,) = unsure.read([picture])
        explanation = explain(unsure, picture)
        assert np.array_equal(explanation.image, apply_view(picture, reading.look))
        assert explanation.edges[-1] == explanation.image.shape[1]
        width = picture.shape[1] / explanation.image.shape[1]
        for one, as_read in zip(explanation.reading.characters, reading.characters, strict=True):
            assert (one.start * width, one.end * width) == pytest.approx((as_read.start, as_read.end))

"""Second looks at words that are read with doubt."""

from __future__ import annotations

import dataclasses
from collections import Counter
from zlib import crc32

import numpy as np
import pytest

from model import Reader, Reading
from model.crnn import CRNN
from model.explain import explain
from model.looks import DOUBTFUL, KEPT, LONGEST, MOST_HEIGHT, discounted, looks, seen, spread
from model.preprocess import ON_SIDE, Image, turned
from model.reading import Alternative, Character
from tests.model.test_reader import patches


def drawn(view: Image) -> Reading:
    """A doubtful reading by lot, but the same for the same view: of an a over its left half and a b over the right."""
    half, full = view.shape[1] / 2, float(view.shape[1])
    confidence = crc32(np.ascontiguousarray(view).tobytes()) / 2**32 * DOUBTFUL
    characters = (Character("a", confidence, 0.0, half), Character("b", confidence, half, full))
    return Reading("ab", confidence, confidence, characters)


@pytest.fixture
def wavering(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A recogniser that doubts whatever it sees, and holds something else for probable at each look."""
    reader = Reader(network)
    monkeypatch.setattr(reader, "_read", lambda views, asked, quotes: [drawn(view) for view in views])
    return reader


def words(count: int) -> list[Image]:
    rng = np.random.default_rng(7)
    return [patches(rng, (int(rng.integers(20, 60)), int(rng.integers(60, 160)))) for _ in range(count)]


def test_a_word_is_looked_at_closer_wider_and_by_its_other_colours() -> None:
    picture = words(1)[0]
    height, width = picture.shape[:2]
    found = dict(looks(picture))
    assert list(found) == ["closer", "wider", "by other colours"]
    rim = round(height / 10)
    assert np.array_equal(found["closer"], picture[rim:-rim])
    assert found["wider"].shape == (height, round(1.3 * width), 3)
    assert found["by other colours"].shape == (height, width)
    for name, view in found.items():
        assert np.array_equal(seen(picture, name), view)
    assert seen(picture, "") is picture


def test_a_large_photograph_is_made_smaller_before_it_is_looked_at() -> None:
    large = patches(np.random.default_rng(0), (1000, 3000))
    views = dict(looks(large))
    assert {view.shape[0] for view in views.values()} == {MOST_HEIGHT, MOST_HEIGHT - 2 * round(MOST_HEIGHT / 10)}
    assert views["closer"].shape[1] == 384
    for name, view in views.items():
        assert np.array_equal(seen(large, name), view)


def test_the_other_colours_show_what_the_first_axis_hides() -> None:
    wall, letter, shade = (235, 230, 225), (210, 25, 35), (40, 40, 45)
    picture = np.full((32, 96, 3), wall, np.uint8)
    picture[4:28, 40:70] = shade
    picture[6:26, 45:60] = letter
    view = dict(looks(picture))["by other colours"].astype(int)
    assert abs(view[16, 50] - view[16, 65]) > 60 and abs(view[16, 50] - view[1, 1]) > 60


@pytest.mark.parametrize("grey", [True, False])
def test_scans_without_colours_or_with_those_of_noise_are_read_once(grey: bool) -> None:
    rng = np.random.default_rng(0)
    black = np.repeat(rng.integers(0, 2, (32, 96, 1)) * 200, 3, axis=2)
    noisy = np.clip(black + rng.normal(0, 4, black.shape), 0, 255)
    assert not list(looks(np.asarray(black[:, :, 0] if grey else noisy, np.uint8)))
    assert not list(looks(np.full((32, 96, 3), (200, 30, 30), np.uint8)))


def test_lines_are_not_looked_at_again_and_low_pictures_not_closer() -> None:
    rng = np.random.default_rng(0)
    assert list(looks(patches(rng, (20, int(20 * LONGEST)))))
    assert not list(looks(patches(rng, (20, int(20 * LONGEST) + 1))))
    low = patches(rng, (9, 40))
    assert [name for name, _ in looks(low)] == ["wider", "by other colours"]
    with pytest.raises(ValueError, match="not worth a look closer"):
        seen(low, "closer")


def test_the_surest_of_all_looks_wins(wavering: Reader) -> None:
    won: Counter[str] = Counter()
    for picture, reading in zip(pictures := words(40), wavering.read(pictures), strict=True):
        each = {"": drawn(picture)} | {name: drawn(view) for name, view in looks(picture)}
        surest = max(each, key=lambda name: each[name].confidence)
        assert reading.look == surest
        assert reading.confidence == each[surest].confidence * (KEPT if surest else 1)
        width = picture.shape[1]
        assert [edge for one in reading.characters for edge in (one.start, one.end)] == pytest.approx(
            [0, width / 2, width / 2, width]
        )
        won[reading.look] += 1
    assert min(won[name] for name in ("", "closer", "wider", "by other colours")) > 2


def test_what_is_read_surely_is_read_once(network: CRNN, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, counts = Reader(network), Counter[str]()
    sure = Reading("sure", DOUBTFUL, 1.0, ())

    def count(views: list[Image], *_: object) -> list[Reading]:
        counts["views"] += len(views)
        return [sure] * len(views)

    monkeypatch.setattr(reader, "_read", count)
    assert reader.read(words(3)) == [sure] * 3
    assert counts["views"] == 3


def test_what_is_held_to_a_constraint_is_read_once(wavering: Reader) -> None:
    pictures = words(12)
    free = [wavering.decoding(alternatives=2)] * len(pictures)
    held = [wavering.decoding(charset="ab"), wavering.decoding(charset_exclude="x"), wavering.decoding(lexicon=["ab"])]
    assert any(reading.look for reading in wavering.read(pictures, free))
    assert not any(reading.look for one in held for reading in wavering.read(pictures, [one] * len(pictures)))


def test_an_answer_with_second_looks_does_not_depend_on_its_company(network: CRNN) -> None:
    reader, pictures = Reader(network), words(24)
    together = reader.read(pictures)
    assert any(reading.look for reading in together)
    for picture, reading in zip(pictures, together, strict=True):
        (alone,) = reader.read([picture])
        assert (alone.text, alone.look) == (reading.text, reading.look)
        assert alone.confidence == pytest.approx(reading.confidence, abs=1e-4)


def test_a_line_on_its_side_is_looked_at_again_as_it_was_turned(wavering: Reader) -> None:
    again: Counter[str] = Counter()
    for picture in words(40):
        on_its_side = turned(picture, 90)
        if on_its_side.shape[0] < ON_SIDE * on_its_side.shape[1]:
            continue
        (reading,) = wavering.read([on_its_side])
        upright = turned(on_its_side, reading.turn)
        assert reading.confidence == drawn(seen(upright, reading.look)).confidence * (KEPT if reading.look else 1)
        assert reading.characters[-1].end == pytest.approx(upright.shape[1])
        again[f"{reading.turn} {reading.look}"] += 1
    assert any(name not in ("0 ", "90 ", "270 ") and not name.startswith("0") for name in again)


def test_an_explanation_is_of_the_look_that_won(wavering: Reader) -> None:
    for picture in words(40):
        (reading,) = wavering.read([picture])
        explanation = explain(wavering, picture)
        assert np.array_equal(explanation.image, seen(picture, reading.look))
        assert explanation.edges[-1] == explanation.image.shape[1]
        assert explanation.reading.characters[-1].end == pytest.approx(explanation.image.shape[1])


def test_a_reading_is_spread_with_its_picture() -> None:
    reading = Reading("ab", 0.5, 0.4, (Character("a", 0.5, 0.0, 4.0), Character("b", 0.4, 4.0, 10.0)))
    assert spread(reading, 1) is reading
    assert [(one.start, one.end) for one in spread(reading, 0.5).characters] == [(0.0, 2.0), (2.0, 5.0)]
    assert dataclasses.replace(spread(reading, 0.5), characters=reading.characters) == reading


def test_a_second_look_is_believed_a_little_less_than_it_says() -> None:
    reading = Reading("a", 0.8, 0.7, (), (Alternative("b", 0.1),))
    assert discounted(reading) is reading
    looked = discounted(dataclasses.replace(reading, look="wider"))
    assert looked.confidence == pytest.approx(0.8 * KEPT)
    assert looked.alternatives[0].confidence == pytest.approx(0.1 * KEPT)

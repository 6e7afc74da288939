"""Shipped weights on clean, drawn text of any colour, size and length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rapidfuzz.distance import Levenshtein

from linewise import model
from linewise.model.network.charset import DEFAULT_ALPHABET
from linewise.model.network.checkpoint import DEFAULT_PATH

pytestmark = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason=f"no weights at {DEFAULT_PATH.name} in this tree")

LINES = ["Invoice 1042", "The quick brown fox", "TOTAL 12.50", "Platform 9", "jumps over 36 lazy dogs"]


@pytest.fixture(scope="module")
def reader() -> model.Reader:
    return model.load(device="cpu")


def draw(
    text: str, size: int = 32, ink: tuple[int, ...] = (0, 0, 0), paper: tuple[int, ...] = (255, 255, 255)
) -> NDArray[np.uint8]:
    """A line of text in Pillow's default font."""
    font = ImageFont.load_default(size)
    margin = size // 4
    image = Image.new("RGB", (int(font.getlength(text)) + 2 * margin, size + 2 * margin), paper)
    ImageDraw.Draw(image).text((margin, margin // 2), text, fill=ink, font=font)
    return np.asarray(image, np.uint8)


def test_the_checkpoint_is_small_and_knows_the_alphabet(reader: model.Reader) -> None:
    assert DEFAULT_PATH.stat().st_size <= 12e6
    assert set(reader.config.alphabet) == set(DEFAULT_ALPHABET)
    assert reader.model_id == "linewise" and reader.revision.startswith("sha256:")


def test_drawn_lines_are_read_and_surely(reader: model.Reader) -> None:
    readings = reader.read([draw(text) for text in LINES])
    assert [r.text for r in readings] == LINES
    assert all(r.confidence > 0.5 for r in readings)
    assert all(r.confidence_min <= 1.0 and len(r.characters) == len(r.text) for r in readings)


@pytest.mark.parametrize("turn", [90, 270])
def test_a_line_on_its_side_is_read(reader: model.Reader, turn: int) -> None:
    on_its_side = np.ascontiguousarray(np.rot90(draw(LINES[0]), turn // 90))
    reading = reader.read([on_its_side])[0]
    assert (reading.text, reading.turn) == (LINES[0], turn)


@pytest.mark.parametrize("size", [16, 24, 48, 96, 200])
def test_any_size_is_read(reader: model.Reader, size: int) -> None:
    assert reader.read([draw(LINES[0], size)])[0].text == LINES[0]


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((255, 255, 255), (0, 0, 0)),
        ((200, 20, 20), (240, 230, 200)),
        ((250, 220, 40), (20, 40, 120)),
        ((90, 90, 90), (130, 130, 130)),
    ],
)
def test_any_colour_is_read(reader: model.Reader, ink: tuple[int, ...], paper: tuple[int, ...]) -> None:
    assert reader.read([draw(LINES[0], ink=ink, paper=paper)])[0].text == LINES[0]


def test_grey_and_colour_arrays_give_the_same_text(reader: model.Reader) -> None:
    colour = draw(LINES[2])
    assert [r.text for r in reader.read([colour, colour[:, :, 0].copy()])] == [LINES[2]] * 2


def test_hundreds_of_characters_in_a_line_are_read(reader: model.Reader) -> None:
    text = " ".join(LINES * 6)
    image = draw(text)
    assert reader.width_bucket(*image.shape[:2]) > reader.config.widths[-1]
    (reading,) = reader.read([image])
    assert Levenshtein.normalized_distance(text, reading.text) <= 0.02


@pytest.mark.xfail(reason="single letters with spaces between are taken for one word that is spaced apart")
def test_characters_are_where_they_were_drawn(reader: model.Reader) -> None:
    image = draw("H I M O")
    (reading,) = reader.read([image])
    letters = [c for c in reading.characters if c.text != " "]
    dark = np.flatnonzero((image[:, :, 0] < 128).any(axis=0))
    assert reading.text == "H I M O"
    assert dark[0] - 8 <= letters[0].start <= letters[0].end <= dark[-1]
    assert dark[0] <= letters[-1].start <= letters[-1].end <= dark[-1] + 8
    assert all(a.start < b.start for a, b in itertools.pairwise(letters))


def test_answers_do_not_depend_on_batch_mates(reader: model.Reader) -> None:
    images = [draw(text, size) for text in LINES for size in (20, 32)]
    for image, together in zip(images, reader.read(images), strict=True):
        (alone,) = reader.read([image])
        assert alone.text == together.text
        assert alone.confidence == pytest.approx(together.confidence, abs=1e-4)


def test_an_empty_picture_has_no_text(reader: model.Reader) -> None:
    assert reader.read([np.full((48, 200), 255, np.uint8)])[0].text == ""

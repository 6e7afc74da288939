"""Whole pages with the shipped weights: every line found, read and put in order, however the page lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from linewise import model
from linewise.model.evaluation.metrics import character_error_rate
from linewise.model.network.checkpoint import CheckpointError, load_model, save
from linewise.model.network.config import DetectorConfig
from linewise.model.network.detector import Detector
from linewise.model.page.detector import BAND_HEIGHT_PX, DEFAULT_PATH, load_detector
from linewise.model.page.reader import PageReader

LETTER = [
    "Dear customer",
    "Thank you for your order of 12 March",
    "The parcel will leave our house today",
    "and should reach you on Thursday",
    "With kind regards",
]
ITEMS = [("Coffee", "3.20"), ("Sandwich", "6.75"), ("Water", "1.90"), ("TOTAL", "11.85")]

shipped = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason=f"no {DEFAULT_PATH.name} in this tree")


def blank(height: int, width: int) -> Image.Image:
    return Image.new("L", (width, height), 255)


def write(page: Image.Image, x: float, y: float, text: str, size: int = 26) -> None:
    ImageDraw.Draw(page).text((x, y), text, fill=20, font=ImageFont.load_default(size))


def letter() -> NDArray[np.uint8]:
    page = blank(420, 640)
    for number, text in enumerate(LETTER):
        write(page, 50, 60 + 56 * number, text)
    return np.asarray(page)


@pytest.fixture(scope="module")
def pages() -> PageReader:
    return model.load_page_reader(reader=model.load(device="cpu"))


@shipped
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_letter_is_read_whichever_way_it_lies(pages: PageReader, turn: int) -> None:
    reading = pages.read(np.ascontiguousarray(np.rot90(letter(), turn // 90)))
    assert reading.text.split("\n") == LETTER
    assert reading.turn == turn
    for number, line in enumerate(reading.lines):
        top = 60 + 56 * number  # the same place in the upright page, whichever way it came
        assert line.quad[0, 0] == pytest.approx(50, abs=14)
        assert line.quad[:, 1].mean() == pytest.approx(top + 17, abs=10)


@shipped
def test_a_receipt_is_read_row_by_row(pages: PageReader) -> None:
    page = blank(360, 460)
    for number, (name, price) in enumerate(ITEMS):
        write(page, 40, 50 + 60 * number, name)
        write(page, 340, 50 + 60 * number, price)
    reading = pages.read(np.asarray(page))
    assert [line.reading.text for line in reading.lines] == [text for item in ITEMS for text in item]
    assert [line.row for line in reading.lines] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert reading.text == "\n".join(f"{name}\t{price}" for name, price in ITEMS)
    assert reading.row_texts[1] == "\t".join(ITEMS[1])


@shipped
def test_characters_have_places_on_the_page(pages: PageReader) -> None:
    line = pages.read(letter()).lines[1]
    characters = line.reading.characters
    assert "".join(c.text for c in characters) == line.reading.text
    first, last = line.place(characters[0]), line.place(characters[-1])
    assert first[:, 0].mean() < 80 and last[:, 0].mean() > 400
    assert (line.quad[:, 1].min() - 1 <= first[:, 1]).all() and (first[:, 1] <= line.quad[:, 1].max() + 1).all()


@shipped
def test_a_page_without_text_has_no_lines(pages: PageReader) -> None:
    assert pages.read(np.full((500, 700), 240, np.uint8)).lines == ()
    assert pages.read(np.full((3, 3), 0, np.uint8)).lines == ()


@shipped
def test_a_receipt_of_many_metres_loses_nothing_where_its_bands_meet(pages: PageReader) -> None:
    count = 3 * BAND_HEIGHT_PX // 80
    page = blank(80 * count + 60, 420)
    for number in range(count):
        write(page, 40, 30 + 80 * number, f"Item number {number + 100}")
    reading = pages.read(np.asarray(page))
    assert [line.reading.text for line in reading.lines] == [f"Item number {n + 100}" for n in range(count)]


@shipped
def test_a_large_photo_is_made_smaller_and_its_corners_count_in_the_original(pages: PageReader) -> None:
    large = np.asarray(Image.fromarray(letter()).resize((2560, 1680), Image.Resampling.BICUBIC))
    reading = pages.read(large)
    assert reading.text.split("\n") == LETTER
    assert reading.lines[0].quad[0] == pytest.approx([200, 260], abs=60)


@shipped
def test_small_print_on_a_large_page_is_looked_at_more_closely(pages: PageReader) -> None:
    page = blank(1700, 1900)
    lines = [f"{number} small print that nobody is meant to read, set without any air" for number in range(100, 140)]
    for row, line in enumerate(lines):
        write(page, 80, 60 + 15 * row, line, 12)
    reading = pages.read(np.asarray(page))
    assert len(reading.lines) == len(lines)
    assert character_error_rate(zip(lines, reading.text.split("\n"), strict=True)) < 0.02


@shipped
def test_the_shipped_detector_is_small() -> None:
    detector, revision = load_detector()
    assert revision.startswith("sha256:")
    assert sum(p.numel() for p in detector.parameters()) <= 3e6
    assert DEFAULT_PATH.stat().st_size <= 12e6


def test_a_recogniser_is_no_detector_and_a_detector_no_recogniser(tmp_path: Path) -> None:
    path = tmp_path / "page.safetensors"
    save(Detector(DetectorConfig(stem=8, channels=(8, 8, 8, 8), blocks=(1, 1, 1, 1), neck=8)), path)
    detector, _ = load_detector(path)
    assert detector.config.neck == 8
    with pytest.raises(CheckpointError):
        load_model(path)

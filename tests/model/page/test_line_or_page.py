"""A picture of one line is read as a line, one of several lines as a page, whichever way it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from linewise import model
from linewise.model import Alternative, PageLine, PageReading, Reading
from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.model.page.line_or_page import is_sure_line, likelier
from linewise.model.page.reader import PageReader

DATA = Path(__file__).parents[2] / "data"
GREEN, CREAM = (20, 90, 60), (240, 235, 220)

shipped = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason=f"no {DEFAULT_PATH.name} in this tree")


def sign(*lines: str, size: int = 40, margin: int = 14) -> NDArray[np.uint8]:
    """White letters on green, one line under the other."""
    font = ImageFont.load_default(size)
    width = max(int(font.getlength(line)) for line in lines) + 2 * margin
    picture = Image.new("RGB", (width, len(lines) * (size + margin) + margin), GREEN)
    for number, line in enumerate(lines):
        ImageDraw.Draw(picture).text((margin, margin // 2 + number * (size + margin)), line, fill=CREAM, font=font)
    return np.asarray(picture)


def line(text: str, confidence: float) -> Reading:
    return Reading(text, confidence, confidence, ())


def found(reading: Reading, left: int, top: int, right: int, bottom: int, row: int) -> PageLine:
    return PageLine(reading, np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32), row)


@pytest.fixture(scope="module")
def pages() -> PageReader:
    return model.load_page_reader(reader=model.load(device="cpu"))


def text_of(reading: Reading | PageReading) -> str:
    return reading.text


def test_a_confident_reading_of_one_stack_of_ink_is_a_sure_line() -> None:
    assert is_sure_line(sign("Harbour"), line("Harbour", 0.9))
    assert not is_sure_line(sign("Harbour"), line("Harbour", 0.6))
    assert not is_sure_line(sign("Harbour"), line("", 0.99))


def test_a_confident_reading_of_one_of_two_lines_is_not_sure() -> None:
    assert not is_sure_line(sign("Harbour", "Museum"), line("Harbour", 0.99))
    assert is_sure_line(sign("jäger über Öl"), line("jäger über Öl", 0.9))  # dots are no line


def test_bars_are_no_line() -> None:
    bars = np.full((60, 100), 255, np.uint8)
    bars[10:20] = bars[40:50] = 0
    assert not is_sure_line(bars, line("=", 0.99))


def test_one_character_in_a_large_picture_is_not_sure() -> None:
    assert is_sure_line(sign("7", size=28, margin=4), line("7", 0.99))
    assert not is_sure_line(sign("7", size=300), line("7", 0.99))


def test_of_equal_confidence_the_reading_that_explains_more_ink_counts() -> None:
    picture = sign("Harbour", "Museum")
    height, width = picture.shape[:2]
    upper = found(line("Harbour", 0.9), 0, 0, width, height // 2, 0)
    lower = found(line("Museum", 0.9), 0, height // 2, width, height, 1)
    one, both = PageReading((upper,)), PageReading((upper, lower))
    assert likelier(picture, line("Harbour", 0.9), both) is both
    assert isinstance(likelier(picture, line("Harbour Museum", 0.9), one), Reading)


def test_a_scrap_at_the_edge_is_left_out_of_a_page_of_one_line() -> None:
    picture = sign("Harbour")
    height, width = picture.shape[:2]
    whole = found(line("Harbour", 0.95), 0, 8, width, height, 1)
    scrap = found(line("uu", 0.05), 0, 0, width, 8, 0)
    chosen = likelier(picture, line("Hurbour", 0.3), PageReading((scrap, whole)))
    assert isinstance(chosen, PageReading)
    assert [(each.reading.text, each.row) for each in chosen.lines] == [("Harbour", 0)]


def test_parts_of_a_line_count_together_like_the_line() -> None:
    picture = sign("Harbour")
    height, width = picture.shape[:2]
    word = found(line("Harbour", 0.8), 0, 5, width, height, 1)
    stroke = found(line("7", 0.4), width - 20, 0, width, height // 2, 0)
    assert text_of(likelier(picture, line("Harbour", 0.5), PageReading((stroke, word)))) == "Harbour"


def test_an_empty_line_never_counts_more_than_a_page_with_text() -> None:
    picture = sign("Harbour")
    height, width = picture.shape[:2]
    page = PageReading((found(line("Harbour", 0.4), 0, 5, width, height, 0),))
    assert likelier(picture, line("", 0.99), page) is page
    scrap = PageReading((found(line("'", 0.01), 0, 5, 20, height, 0),))
    assert likelier(picture, line("", 0.99), scrap).text == ""


def test_noise_is_no_text() -> None:
    wall = np.full((200, 300), 180, np.uint8)
    chosen = likelier(wall, line("|", 0.05), PageReading(()))
    assert (chosen.text, isinstance(chosen, PageReading)) == ("", True)
    assert likelier(wall, line("Harbour", 0.3), PageReading(())).text == "Harbour"


@shipped
@pytest.mark.parametrize(
    ("lines", "turn"),
    [
        (("Harbour",), 0),
        (("Harbour", "Museum"), 0),
        (("OPEN", "DAILY", "FROM NINE"), 0),
        (("Harbour", "Museum"), 180),
        (("Harbour Museum", "Open daily"), 90),
        (("Harbour Museum", "Open daily"), 270),
    ],
)
def test_signs_are_read_whole_whichever_way_they_lie(pages: PageReader, lines: tuple[str, ...], turn: int) -> None:
    picture = np.ascontiguousarray(np.rot90(sign(*lines), turn // 90))
    assert pages.read_auto(picture).text.split("\n") == list(lines)


@shipped
def test_a_word_cut_out_with_the_rim_of_its_neighbours_is_read_alone(pages: PageReader) -> None:
    column = sign("Hamburg", "Bremen", "Lübeck", size=40, margin=6)
    assert pages.read_auto(np.ascontiguousarray(column[36:98])).text == "Bremen"


@shipped
def test_a_receipt_is_a_page_and_its_line_a_line(pages: PageReader) -> None:
    receipt = pages.read_auto(np.asarray(Image.open(DATA / "cafe.jpg")))
    assert isinstance(receipt, PageReading)
    assert {"CAFÉ LINDE", "Cappuccino", "6,80", "30,90"} <= {each.reading.text for each in receipt.lines}
    single = pages.read_auto(np.asarray(Image.open(DATA / "receipt.png").convert("RGB")))
    assert isinstance(single, Reading) and single.text == "TOTAL EUR 12.50"


@shipped
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_empty_wall_has_no_text(pages: PageReader, shade: int) -> None:
    noise = np.random.default_rng(shade).normal(shade, 6, (300, 400))
    assert pages.read_auto(np.clip(noise, 0, 255).astype(np.uint8)).text == ""


@shipped
def test_constraints_hold_for_lines_and_pages(pages: PageReader) -> None:
    digits = pages.reader.decoding(alternatives=1, charset="0123456789")
    reading = pages.read_auto(sign("4711", "1048"), digits)
    assert reading.text == "4711\n1048"
    assert isinstance(reading, PageReading)
    assert all(isinstance(other, Alternative) for each in reading.lines for other in each.reading.alternatives)


@shipped
@pytest.mark.parametrize("turn", [0, 180])
def test_a_page_keeps_its_orientation_where_that_is_given(pages: PageReader, turn: int) -> None:
    picture = np.ascontiguousarray(np.rot90(sign("Harbour", "Museum"), turn // 90))
    steps = pages.steps(picture, pages.find(picture), finds_orientation=False)
    crops = next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(pages.reader.read(crops))
    assert end.value.value.turn == 0
    assert (end.value.value.text == "Harbour\nMuseum") == (turn == 0)

"""Plain text, hOCR, ALTO and searchable PDF: chosen by ``Accept``, well formed, and each word where it stands."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pypdfium2
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linewise.model import Character, PageLine, PageReading, Reading
from linewise.service.api.options import Options
from linewise.service.api.schemas import CharacterInfo, ImageInfo, LineInfo, PageInfo, TextAnswer
from linewise.service.documents.image import ImageLimits, UprightImage
from linewise.service.documents.multipage import DPI
from linewise.service.errors import NotAcceptable
from linewise.service.formats import formats
from linewise.service.formats.formats import Format
from linewise.service.formats.layout import sheets
from linewise.service.formats.searchable_pdf import SearchablePdf
from linewise.service.inference.pipeline import PageRecognition
from tests.service.conftest import encode
from tests.service.documents.test_multipage import saved
from tests.service.inference.test_pipeline import page, post

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768, max_aspect=500)
XHTML, ALTO = "{http://www.w3.org/1999/xhtml}", "{http://www.loc.gov/standards/alto/ns-v4#}"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

Point = tuple[float, float]


def line_of(
    text: str, start: Point = (20, 30), angle: float = 0.0, advance: float = 12, height: float = 24
) -> LineInfo:
    """A line in a typewriter's letters from a top left corner on, turned clockwise by an angle in degrees."""
    along = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def corner(x: float, y: float) -> Point:
        return start[0] + x * along[0] - y * along[1], start[1] + x * along[1] + y * along[0]

    def cell(left: float, right: float) -> list[Point]:
        return [corner(left, 0), corner(right, 0), corner(right, height), corner(left, height)]

    letters = [  # as short as the network's spans are: around the middle of each
        CharacterInfo(text=letter, confidence=0.9 - 0.01 * i, polygon=cell(advance * (i + 0.4), advance * (i + 0.6)))
        for i, letter in enumerate(text)
    ]
    polygon = cell(0, advance * len(text))
    return LineInfo(text=text, confidence=0.8, confidence_min=0.7, polygon=polygon, row=0, chars=letters)


def answer_of(*pages: Sequence[LineInfo], size: tuple[int, int] = (400, 300)) -> TextAnswer:
    image = ImageInfo(width=size[0], height=size[1], format="PNG", orientation_applied=0)
    told: dict[str, Any] = {"confidence": 0.8, "confidence_min": 0.7, "image": image, "warnings": []}
    parts = [
        PageInfo(page=i, text="\n".join(line.text for line in lines), lines=list(lines), **told)
        for i, lines in enumerate(pages, start=1)
    ]
    whole = "\n".join(part.text for part in parts)
    if len(parts) == 1:
        return TextAnswer(text=whole, lines=parts[0].lines, **told)
    return TextAnswer(text=whole, pages=parts, **told)


def picture(size: tuple[int, int] = (400, 300)) -> bytes:
    pixels = np.full((size[1], size[0]), 250, np.uint8)
    pixels[40:50, 30:300] = 90
    return encode(Image.fromarray(pixels))


def pdf_of(answer: TextAnswer, data: bytes) -> bytes:
    document = SearchablePdf(data, sheets(answer), LIMITS)
    for number in document.pages:
        document.add_page(number)
    return document.finish()


# Which --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        (BROWSER, "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("text/plain", "text/plain"),
        ("TEXT/Plain; charset=utf-8", "text/plain"),
        ("text/*", "text/plain"),
        ("application/*", "application/json"),
        ("application/json;q=0, application/*", "application/alto+xml"),
        ("application/json;q=0.4, application/pdf;q=0.5", "application/pdf"),
        ("application/pdf, */*", "application/pdf"),
        ("application/pdf;q=0.3, */*;q=0.2", "application/pdf"),
        ("text/vnd.hocr+html", "text/vnd.hocr+html"),
        ("text/html", "text/html"),
        ("application/xml", "application/xml"),
        ("text/csv, application/alto+xml;q=0.1", "application/alto+xml"),
        ("application/pdf;q=high, text/plain;q=0.2", "text/plain"),
    ],
)
def test_the_form_that_is_liked_best_is_taken(accept: str, media_type: str) -> None:
    form, name = formats.negotiated(accept)
    assert name == media_type
    assert form is (formats.MEDIA_TYPES | formats.GENERAL_TYPES)[media_type]


@pytest.mark.parametrize("accept", ["text/csv", "application/json;q=0", "*/*;q=0", "rubbish", "application/json;q=nan"])
def test_what_names_no_form_is_refused_with_those_that_there_are(accept: str) -> None:
    with pytest.raises(NotAcceptable, match=r"application/json.*application/pdf"):
        formats.negotiated(accept)


def test_a_form_that_there_is_not_is_a_problem_before_anything_is_read(client: TestClient, fake: Any) -> None:
    response = client.post("/recognize", content=page(), headers={"accept": "image/png"})
    assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")
    assert response.headers["content-type"] == "application/problem+json"
    assert "text/vnd.hocr+html" in response.json()["detail"]
    assert fake.seen == []


def test_errors_are_problems_whatever_form_is_asked_for(client: TestClient) -> None:
    for accept in formats.MEDIA_TYPES:
        response = client.post("/recognize", content=b"rubbish", headers={"accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (415, "application/problem+json")


def test_batches_stay_json(client: TestClient) -> None:
    response = client.post("/recognize/batch", files=[("files", page())], headers={"accept": "text/plain"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


def test_the_forms_are_documented(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    responses = paths["/recognize"]["post"]["responses"]
    assert set(responses["200"]["content"]) == {*formats.MEDIA_TYPES, *formats.GENERAL_TYPES}
    assert "406" in responses and "406" not in paths["/recognize/batch"]["post"]["responses"]


# Over HTTP ----------------------------------------------------------------------------------------------------------


def ask(client: TestClient, data: bytes, accept: str, **options: Any) -> Any:
    response = client.post("/recognize", content=data, params=options, headers={"accept": accept})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].partition(";")[0] == accept
    assert "inference" in response.headers["server-timing"]
    return response


def classes(text: str, name: str) -> list[ET.Element]:
    return [element for element in ET.fromstring(text.partition("\n")[2]).iter() if element.get("class") == name]


def texts_of_pdf(data: bytes) -> list[str]:
    with pypdfium2.PdfDocument(data) as document:
        found = []
        for number in range(len(document)):
            drawn = document[number].get_textpage()
            found.append(str(drawn.get_text_range()).replace("\r\n", "\n"))
            drawn.close()
        return found


@pytest.mark.parametrize("mode", ["line", "page", "document"])
def test_every_form_is_had_of_a_line_a_page_and_a_document(client: TestClient, mode: str) -> None:
    wanted = {"line": [["230"]], "page": [["20", "60", "100"]], "document": [["20", "60"], [], ["100", "140", "180"]]}[
        mode
    ]
    data = {"line": page((20,)), "page": page(), "document": saved("TIFF")}[mode]
    asked = {"mode": "line" if mode == "line" else "page"}
    if mode == "line":
        wanted = [[post(client, data).json()["text"]]]
    lines = "".join(f"{text}\n" for texts in wanted for text in texts)
    assert ask(client, data, "text/plain", **asked).text == lines

    hocr = ask(client, data, "text/vnd.hocr+html", **asked).text
    assert len(classes(hocr, "ocr_page")) == len(wanted)
    assert [one.text for one in classes(hocr, "ocrx_word")] == lines.split()

    alto = ET.fromstring(ask(client, data, "application/alto+xml", **asked).content)
    strings = [[one.get("CONTENT") for one in part.iter(f"{ALTO}String")] for part in alto.iter(f"{ALTO}Page")]
    assert strings == wanted

    pdf = ask(client, data, "application/pdf", **asked).content
    assert [text.split() for text in texts_of_pdf(pdf)] == wanted


def test_a_pdf_becomes_searchable_page_by_page(client: TestClient) -> None:
    data = saved("PDF")
    pdf = ask(client, data, "application/pdf", mode="page").content
    assert [len(text.split()) for text in texts_of_pdf(pdf)] == [2, 0, 3]
    with pypdfium2.PdfDocument(data) as before, pypdfium2.PdfDocument(pdf) as after:
        for number in range(3):
            assert after[number].get_size() == pytest.approx(before[number].get_size(), abs=0.5)


def test_a_text_that_is_withheld_is_in_no_form(client: TestClient) -> None:
    for accept in list(formats.MEDIA_TYPES)[1:4]:
        assert "100" not in ask(client, page(), accept, mode="page", min_confidence=0.9).text.replace("x_wconf 100", "")
    pdf = ask(client, page(), "application/pdf", mode="page", min_confidence=0.9).content
    assert texts_of_pdf(pdf) == [""]


def test_a_page_that_was_turned_is_upright_in_the_pdf(client: TestClient) -> None:
    upside_down = np.asarray(Image.open(io.BytesIO(page())))[::-1, ::-1]
    data = encode(Image.fromarray(upside_down))
    pdf = ask(client, data, "application/pdf", mode="page", orientation="180").content
    assert texts_of_pdf(pdf) == ["20\n60\n100"]
    assert np.abs(drawn(pdf)[:110, :120].astype(int) - upside_down[::-1, ::-1]).mean() < 2


def test_without_the_extra_the_refusal_says_how_to_install_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, fake: Any
) -> None:
    monkeypatch.setattr("linewise.service.formats.searchable_pdf.find_spec", lambda name: None)
    response = client.post("/recognize", content=page(), headers={"accept": "application/pdf"})
    assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")
    assert "pip install 'linewise[pdf]'" in response.json()["detail"]
    assert fake.seen == []


# Words --------------------------------------------------------------------------------------------------------------


def test_words_reach_over_their_letters_and_not_over_their_neighbours() -> None:
    (sheet,) = sheets(answer_of([line_of("ab cde  f")]))
    words = sheet.lines[0].words
    assert [word.text for word in words] == ["ab", "cde", "f"]
    for word, (first, last) in zip(words, [(0, 2), (3, 6), (8, 9)], strict=True):
        left, right = word.corners[0][0], word.corners[1][0]
        assert 20 + 12 * (first - 0.5) <= left <= 20 + 12 * (first + 0.1)
        assert 20 + 12 * (last - 0.1) <= right <= 20 + 12 * (last + 0.5)
    for before, after in pairwise(words):
        assert before.corners[1][0] < after.corners[0][0]
    assert [word.confidence for word in words] == pytest.approx([0.89, 0.85, 0.82])  # of the weakest letter


def test_a_lone_letter_has_a_place() -> None:
    (sheet,) = sheets(answer_of([line_of("x")]))
    (left, top), (right, _), (_, bottom), _ = sheet.lines[0].words[0].corners
    assert (left, top, right, bottom) == pytest.approx((20, 30, 32, 54))


def test_a_line_on_its_side_begins_where_its_text_does() -> None:
    quad = np.array([[10, 20], [30, 20], [30, 140], [10, 140]], np.float32)  # of a line that is read from below
    letters = tuple(Character(letter, 0.9, 20.0 * i + 12, 20.0 * i + 14) for i, letter in enumerate("rising"))
    reading = Reading("rising", 0.9, 0.9, letters, turn=90)
    upright = UprightImage(np.empty((0, 0), np.uint8), 400, 300, "PNG", 0, 1.0)
    recognition = PageRecognition(upright, 0, PageReading((PageLine(reading, quad, 0),)), 0.0, 0.0, 0.0)
    answer = formats.answer_of(recognition, Options())
    assert answer.lines is not None and answer.lines[0].polygon == [(10, 140), (10, 20), (30, 20), (30, 140)]
    pdf = pdf_of(answer, picture())
    assert texts_of_pdf(pdf) == ["rising"]
    middles = [(top + bottom) / 2 for _, _, top, _, bottom in boxes_in_pdf(pdf)]
    assert middles == pytest.approx([130 - 20 * i for i in range(6)], abs=6)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.lists(st.tuples(st.floats(-50, 450), st.floats(-50, 350)), min_size=4, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_read_wherever_every_file_is_whole(text: str, corners: list[Point]) -> None:
    line = line_of(text).model_copy(update={"polygon": corners})
    answer = answer_of([line])
    words = text.split()
    assert len(classes(formats.hocr(answer), "ocrx_word")) == len(words)
    root = ET.fromstring(formats.alto(answer))
    assert len(list(root.iter(f"{ALTO}String"))) == len(words)
    for element in root.iter():
        assert all(0 <= int(element.attrib[side]) <= 400 for side in BOX & set(element.attrib))
    with pypdfium2.PdfDocument(pdf_of(answer, picture())) as document:
        assert len(document) == 1


# hOCR and ALTO ------------------------------------------------------------------------------------------------------

PAGES: tuple[list[LineInfo], ...] = (
    [line_of('Žluťoučký <kůň> & "Straße"'), line_of("schräg 5 €", (30, 120), 12)],
    [],
    [line_of("up", (60, 200), -90)],
)


def test_hocr_has_a_box_for_every_word_within_its_page() -> None:
    text = formats.hocr(answer_of(*PAGES))
    assert text.startswith("<!DOCTYPE html>\n")
    assert [one.get("title") for one in classes(text, "ocr_page")] == [
        f"bbox 0 0 400 300; ppageno {i}" for i in range(3)
    ]
    words = classes(text, "ocrx_word")
    assert [one.text for one in words] == ["Žluťoučký", "<kůň>", "&", '"Straße"', "schräg", "5", "€", "up"]
    for word in words:
        place, _, confidence = str(word.get("title")).partition("; x_wconf ")
        left, top, right, bottom = map(int, place.removeprefix("bbox ").split())
        assert 0 <= left < right <= 400 and 0 <= top < bottom <= 300
        assert 0 <= int(confidence) <= 100
    assert str(words[0].get("title")).endswith("x_wconf 82")  # 0.9 - 0.01 * 8, its weakest letter
    lines = [str(one.get("title")) for one in classes(text, "ocr_line")]
    assert lines[0].endswith("; baseline 0.0000 -5")
    assert f"; baseline {math.tan(math.radians(12)):.4f} " in lines[1]
    assert lines[2].endswith("; textangle 90")
    identities = [one.get("id") for one in ET.fromstring(text.partition("\n")[2]).iter() if one.get("id")]
    assert len(identities) == len(set(identities))


# Of ALTO 4.4: what may be in what, and what each must have.
WITHIN = {
    "alto": ["Description", "Layout"],
    "Description": ["MeasurementUnit", "Processing"],
    "MeasurementUnit": [],
    "Processing": ["processingCategory", "processingSoftware"],
    "processingCategory": [],
    "processingSoftware": ["softwareName"],
    "softwareName": [],
    "Layout": ["Page"],
    "Page": ["PrintSpace"],
    "PrintSpace": ["TextBlock"],
    "TextBlock": ["TextLine"],
    "TextLine": ["Shape", "String", "SP"],
    "Shape": ["Polygon"],
    "Polygon": [],
    "String": [],
    "SP": [],
}
BOX = {"HPOS", "VPOS", "WIDTH", "HEIGHT"}
HAS = {
    "Processing": {"ID"},
    "Page": {"ID", "PHYSICAL_IMG_NR", "WIDTH", "HEIGHT", "PC"},
    "PrintSpace": BOX,
    "TextBlock": {"ID"} | BOX,
    "TextLine": {"ID", "BASELINE"} | BOX,
    "Polygon": {"POINTS"},
    "String": {"ID", "CONTENT", "WC"} | BOX,
    "SP": BOX,
}


def test_alto_has_the_structure_of_its_schema() -> None:
    root = ET.fromstring(formats.alto(answer_of(*PAGES)))
    assert root.tag == f"{ALTO}alto"
    for element in root.iter():
        name = element.tag.removeprefix(ALTO)
        inside = [child.tag.removeprefix(ALTO) for child in element]
        assert set(inside) <= set(WITHIN[name]), name
        if name != "TextLine":
            assert inside == sorted(inside, key=WITHIN[name].index), name  # a sequence
        if name in HAS:
            assert set(element.attrib) == HAS[name], name
        for attribute in BOX & set(element.attrib):
            assert int(element.attrib[attribute]) >= 0
    assert [one.text for one in root.iter(f"{ALTO}MeasurementUnit")] == ["pixel"]
    for block in root.iter(f"{ALTO}TextBlock"):
        assert len(block)
    for line in root.iter(f"{ALTO}TextLine"):
        kinds = [child.tag.removeprefix(ALTO) for child in line]
        assert kinds == ["Shape", *["String", "SP"] * (len(kinds) // 2 - 1), "String"]
    identities = [one.get("ID") for one in root.iter() if one.get("ID")]
    assert len(identities) == len(set(identities))


def test_alto_says_what_stands_where_and_how_sure_that_is() -> None:
    root = ET.fromstring(formats.alto(answer_of(*PAGES)))
    assert [one.get("PHYSICAL_IMG_NR") for one in root.iter(f"{ALTO}Page")] == ["1", "2", "3"]
    strings = list(root.iter(f"{ALTO}String"))
    assert [one.get("CONTENT") for one in strings][:4] == ["Žluťoučký", "<kůň>", "&", '"Straße"']
    first = strings[0]
    assert (first.get("VPOS"), first.get("HEIGHT"), first.get("WC")) == ("30", "24", "0.8200")
    assert int(str(first.get("HPOS"))) == pytest.approx(20, abs=2)
    assert int(str(first.get("WIDTH"))) == pytest.approx(9 * 12, abs=4)
    assert next(root.iter(f"{ALTO}TextLine")).get("BASELINE") == "20.0,49.2 332.0,49.2"


def test_control_characters_never_reach_xml() -> None:
    answer = answer_of([line_of("a\x00\x1b\ufffe\ud800b c\x7f")])
    words = [one.text for one in classes(formats.hocr(answer), "ocrx_word")]
    strings = [one.get("CONTENT") for one in ET.fromstring(formats.alto(answer)).iter(f"{ALTO}String")]
    assert words == strings == ["a" + "\ufffd" * 4 + "b", "c\x7f"]


# PDF ----------------------------------------------------------------------------------------------------------------


def drawn(pdf: bytes, number: int = 0) -> Any:
    """The pixels of a page, grey, at the scale of its picture."""
    with pypdfium2.PdfDocument(pdf) as document:
        return np.asarray(document[number].render(scale=DPI / 72, grayscale=True).to_pil().convert("L")).copy()


def boxes_in_pdf(pdf: bytes) -> list[tuple[str, float, float, float, float]]:
    """Each character of the first page but blanks, with its box in pixels of the picture, from the top left corner."""
    with pypdfium2.PdfDocument(pdf) as document:
        height = document[0].get_height()
        text = document[0].get_textpage()
        found = []
        for index in range(text.count_chars()):
            letter = text.get_text_range(index, 1)
            if letter.strip():
                left, bottom, right, top = text.get_charbox(index)
                scaled = (side * DPI / 72 for side in (left, height - top, right, height - bottom))
                found.append((letter, *scaled))
        text.close()
        return found


@pytest.mark.parametrize("angle", [0, 12, -90])
def test_every_letter_can_be_found_where_it_stands(angle: float) -> None:
    text, start = "čas ß café €", (40.0, 60.0 if angle >= 0 else 250.0)
    pdf = pdf_of(answer_of([line_of(text, start, angle)]), picture())
    assert texts_of_pdf(pdf) == [text]
    letters = [(i, letter) for i, letter in enumerate(text) if letter != " "]
    for (i, letter), (found, left, top, right, bottom) in zip(letters, boxes_in_pdf(pdf), strict=True):
        assert found == letter
        x, y = 12 * (i + 0.5), 12.0
        turn = math.radians(angle)
        wanted = (
            start[0] + x * math.cos(turn) - y * math.sin(turn),
            start[1] + x * math.sin(turn) + y * math.cos(turn),
        )
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(wanted, abs=5)


def test_the_whole_alphabet_can_be_copied() -> None:
    from linewise.model.network.charset import DEFAULT_ALPHABET

    # PDFium leaves out a hyphen at the end of a line, so none stands there.
    rows = [DEFAULT_ALPHABET[first : first + 30].strip() for first in range(0, len(DEFAULT_ALPHABET), 30)]
    lines = [line_of(row, (10, 10 + 30 * i)) for i, row in enumerate(rows)]
    height = 30 * len(rows) + 20
    pdf = pdf_of(answer_of(lines, size=(400, height)), picture((400, height)))
    assert texts_of_pdf(pdf)[0].split("\n") == rows


def test_the_page_looks_like_the_picture() -> None:
    data = picture()
    pdf = pdf_of(answer_of([line_of("unseen")]), data)
    assert np.abs(drawn(pdf).astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 1
    with pypdfium2.PdfDocument(pdf) as document:
        assert document[0].get_size() == pytest.approx((400 * 72 / DPI, 300 * 72 / DPI), abs=0.01)


def test_a_plain_jpeg_that_is_upright_is_taken_over_as_it_is() -> None:
    shot = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8))
    data = encode(shot, "JPEG", quality=40)
    assert data in pdf_of(answer_of([line_of("a")]), data)
    exif = Image.Exif()
    exif[0x0112] = 2  # a mirror, which turns nothing
    turned, cmyk = encode(shot, "JPEG", exif=exif), encode(shot.convert("CMYK"), "JPEG")
    coloured = encode(shot, "JPEG", icc_profile=b"not a profile, and not asked whether it is one")
    for other in (turned, cmyk, coloured):
        pdf = pdf_of(answer_of([line_of("a")]), other)
        assert other not in pdf and texts_of_pdf(pdf) == ["a"]


def test_a_photo_without_loss_does_not_make_a_huge_file() -> None:
    noise = np.random.default_rng(1).normal(128, 20, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    data = encode(Image.fromarray(noise))
    assert len(pdf_of(answer_of([line_of("a")]), data)) < len(data) / 2


def test_equal_answers_make_equal_files_whatever_the_time() -> None:
    answer, data = answer_of([line_of("again")]), picture()
    first = pdf_of(answer, data)
    time.sleep(1.1)  # times in a PDF and in its fonts are in seconds
    assert pdf_of(answer, data) == first


def test_a_late_pdf_is_given_up(make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SearchablePdf, "add_page", lambda self, number: time.sleep(0.3))
    headers = {"accept": "application/pdf", "x-request-timeout": "0.2"}
    late = make_client().post("/recognize", content=page(), params={"mode": "page"}, headers=headers)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


def test_every_form_has_a_name() -> None:
    assert set(formats.MEDIA_TYPES.values()) == set(Format)

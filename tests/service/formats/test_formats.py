"""Plain text, hOCR, ALTO and searchable PDF over HTTP, and for arbitrary text and polygons."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pypdfium2
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linewise.service.api.responses import MEDIA_TYPES
from linewise.service.documents.layout import Polygon
from linewise.service.formats.alto import write_alto
from linewise.service.formats.hocr import write_hocr
from linewise.service.formats.searchable_pdf import SearchablePdf
from tests.service.conftest import encode
from tests.service.documents.test_multipage import saved
from tests.service.formats.samples import ALTO, BOX, classes, document_of, drawn, line_of, pdf_of, picture, texts_of_pdf
from tests.service.inference.test_pipeline import page, post


def ask(client: TestClient, data: bytes, accept: str, **options: Any) -> Any:
    response = client.post("/recognize", content=data, params=options, headers={"accept": accept})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].partition(";")[0] == accept
    assert "inference" in response.headers["server-timing"]
    return response


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

    table = ask(client, data, "text/tab-separated-values", **asked).text
    words = [row.split("\t") for row in table.splitlines()[1:] if row.startswith("5")]
    assert [[word[-1] for word in words if word[1] == str(number)] for number in range(1, len(wanted) + 1)] == wanted

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
    for accept in list(MEDIA_TYPES)[1:5]:
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


def test_a_late_pdf_is_given_up(make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SearchablePdf, "add_page", lambda self, number: time.sleep(0.3))
    headers = {"accept": "application/pdf", "x-request-timeout": "0.2"}
    late = make_client().post("/recognize", content=page(), params={"mode": "page"}, headers=headers)
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.tuples(*[st.tuples(st.floats(-50, 450), st.floats(-50, 350))] * 4),
)
@settings(max_examples=60, deadline=None)
def test_whatever_was_read_wherever_every_file_is_whole(text: str, corners: Polygon) -> None:
    line = replace(line_of(text), polygon=corners)
    document = document_of([line])
    words = text.split()
    assert len(classes(write_hocr(document), "ocrx_word")) == len(words)
    root = ET.fromstring(write_alto(document))
    assert len(list(root.iter(f"{ALTO}String"))) == len(words)
    for element in root.iter():
        assert all(0 <= int(element.attrib[side]) <= 400 for side in BOX & set(element.attrib))
    with pypdfium2.PdfDocument(pdf_of(document, picture())) as document:
        assert len(document) == 1


def test_control_characters_never_reach_xml() -> None:
    document = document_of([line_of("a\x00\x1b\ufffe\ud800b c\x7f")])
    words = [one.text for one in classes(write_hocr(document), "ocrx_word")]
    strings = [one.get("CONTENT") for one in ET.fromstring(write_alto(document)).iter(f"{ALTO}String")]
    assert words == strings == ["a" + "\ufffd" * 4 + "b", "c\x7f"]

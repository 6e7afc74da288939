"""Content negotiation with the ``Accept`` header."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from linewise.service.api.responses import GENERIC_MEDIA_TYPES, MEDIA_TYPES, negotiate
from linewise.service.errors import NotAcceptable
from linewise.service.formats.formats import Format
from tests.service.inference.test_pipeline import page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


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
    form, name = negotiate(accept)
    assert name == media_type
    assert form is (MEDIA_TYPES | GENERIC_MEDIA_TYPES)[media_type]


@pytest.mark.parametrize("accept", ["text/csv", "application/json;q=0", "*/*;q=0", "rubbish", "application/json;q=nan"])
def test_what_names_no_form_is_refused_with_those_that_there_are(accept: str) -> None:
    with pytest.raises(NotAcceptable, match=r"application/json.*application/pdf"):
        negotiate(accept)


def test_a_form_that_there_is_not_is_a_problem_before_anything_is_read(client: TestClient, fake: Any) -> None:
    response = client.post("/recognize", content=page(), headers={"accept": "image/png"})
    assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")
    assert response.headers["content-type"] == "application/problem+json"
    assert "text/vnd.hocr+html" in response.json()["detail"]
    assert fake.seen == []


def test_errors_are_problems_whatever_form_is_asked_for(client: TestClient) -> None:
    for accept in MEDIA_TYPES:
        response = client.post("/recognize", content=b"rubbish", headers={"accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (415, "application/problem+json")


def test_batches_stay_json(client: TestClient) -> None:
    response = client.post("/recognize/batch", files=[("files", page())], headers={"accept": "text/plain"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


def test_the_forms_are_documented(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    responses = paths["/recognize"]["post"]["responses"]
    assert set(responses["200"]["content"]) == {*MEDIA_TYPES, *GENERIC_MEDIA_TYPES}
    assert "406" in responses and "406" not in paths["/recognize/batch"]["post"]["responses"]


def test_every_form_has_a_name() -> None:
    assert set(MEDIA_TYPES.values()) == set(Format)

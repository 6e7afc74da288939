"""Cards of the demo page in a real browser: samples, pages, pictures, downloads, widths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from linewise.service.web import page as page_module
from tests.service.inference.test_pipeline import doubtful_from
from tests.service.inference.test_pipeline import page as drawn_page
from tests.service.web.conftest import Open, browser_test, drop, grey

SAMPLES = Path(page_module.__file__).parent / "samples"
PHONE = {"viewport": {"width": 400, "height": 800}, "has_touch": True, "is_mobile": True}


def picture_width(page: Page) -> int:
    """Width in pixels of the picture that is shown, once it is loaded."""
    expect(page.locator(".picture.loading")).to_have_count(0)
    return int(page.evaluate("document.querySelector('.picture img').naturalWidth"))


def test_the_samples_are_small_and_served(client: TestClient) -> None:
    files = list(SAMPLES.iterdir())
    assert sum(file.stat().st_size for file in files) < 60_000
    for file in files:
        response = client.get(f"/web/samples/{file.name}")
        assert response.content == file.read_bytes()
        assert response.headers["content-type"].startswith("image/")


@browser_test
def test_samples_are_read_and_pages_turned_by_keyboard(open_page: Open) -> None:
    page = open_page(device={"viewport": {"width": 1280, "height": 900}})
    page.get_by_label("Layout").select_option("page")
    page.get_by_role("button", name="Letter, 2 pages").press("Enter")
    expect(page.locator(".figures")).to_contain_text("Page 1 of 2 · Mean confidence of 13 lines")
    expect(page.locator("polygon")).to_have_count(13)
    assert picture_width(page) == 1131  # a preview, since Chromium does not show TIFF
    expect(page.get_by_role("button", name="Previous page")).to_have_attribute("aria-disabled", "true")
    forward = page.get_by_role("button", name="Next page")
    forward.press("Enter")
    expect(page.locator(".figures")).to_contain_text("Page 2 of 2")
    expect(page.locator("polygon")).to_have_count(9)
    expect(page.locator(".lines button")).to_have_count(9)
    expect(forward).to_be_focused()
    expect(forward).to_have_attribute("aria-disabled", "true")
    forward.press("Enter")
    page.get_by_label("Page", exact=True).select_option("1")
    expect(page.locator("polygon")).to_have_count(13)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input:not([hidden])')].filter((control) =>"
        " !control.textContent.trim() && !control.labels.length && !control.ariaLabel).length"
    )
    assert unnamed == 0


@browser_test
@pytest.mark.parametrize(("orientation", "width", "previews"), [("auto", 120, 0), ("90", 110, 1)])
def test_the_picture_is_shown_as_it_was_read(open_page: Open, orientation: str, width: int, previews: int) -> None:
    page = open_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.get_by_label("Layout").select_option("page")
    page.get_by_label("Rotation").select_option(orientation)
    drop(page, ("page.png", drawn_page((20, 60, 100))))
    expect(page.locator("#status")).to_have_text("1 of 1 read")
    assert picture_width(page) == width
    assert page.locator("polygon").count() > 0
    assert sum("/web/preview" in url for url in requested) == previews


@browser_test
def test_results_are_downloaded_as_text_json_and_searchable_pdf(open_page: Open, fake: Any) -> None:
    fake.reading = doubtful_from(50)
    page = open_page()
    drop(page, ("scan.of.page.png", drawn_page((20, 60, 100))))
    contents = {}
    for button in ("Text file", "JSON file", "Searchable PDF"):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        contents[download.value.suggested_filename] = download.value.path().read_bytes()
        expect(page.locator(".notice")).to_have_text(f"Saved {download.value.suggested_filename}.")
    assert list(contents) == ["scan.of.page.txt", "scan.of.page.json", "scan.of.page.pdf"]
    assert contents["scan.of.page.txt"] == b"20\n60\n100\n"
    assert json.loads(contents["scan.of.page.json"])["text"] == "20\n60\n100"
    assert contents["scan.of.page.pdf"].startswith(b"%PDF-")


@browser_test
def test_a_download_that_fails_says_why(open_page: Open, fake: Any) -> None:
    page = open_page()
    drop(page, ("a.png", grey(5)))
    expect(page.locator(".card .text")).to_have_text("5")
    fake.failure = ValueError("secret")
    page.get_by_role("button", name="Searchable PDF").click()
    expect(page.locator(".notice")).to_contain_text("Internal error")


@browser_test
def test_a_phone_takes_a_photo_and_shows_the_text_below_it(open_page: Open, fake: Any, tmp_path: Path) -> None:
    fake.reading = doubtful_from(50)
    (tmp_path / "photo.png").write_bytes(drawn_page((20, 60, 100), width=2000))
    page = open_page(device=PHONE)
    assert page.locator("#camera").get_attribute("capture") == "environment"
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photo").tap()
    chooser.value.set_files(tmp_path / "photo.png")
    expect(page.locator("#status")).to_have_text("1 of 1 read")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    picture, lines = page.locator(".picture").bounding_box(), page.locator(".lines").bounding_box()
    assert picture and lines
    assert lines["y"] >= picture["y"] + picture["height"]


@browser_test
def test_a_wide_screen_shows_the_lines_beside_the_picture(open_page: Open, fake: Any) -> None:
    fake.reading = doubtful_from(50)
    page = open_page(device={"viewport": {"width": 1280, "height": 900}})
    expect(page.get_by_role("button", name="Take a photo")).to_be_hidden()
    drop(page, ("page.png", drawn_page((20, 60, 100), width=2000)))
    expect(page.locator("#status")).to_have_text("1 of 1 read")
    picture, lines = page.locator(".picture").bounding_box(), page.locator(".lines").bounding_box()
    assert picture and lines
    assert lines["x"] >= picture["x"] + picture["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280

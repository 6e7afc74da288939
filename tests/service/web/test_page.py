"""The demo page in a real browser: files go in, texts and errors come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Page, expect

from linewise.model import Alternative, Reading
from tests.service.inference.test_pipeline import doubtful_from
from tests.service.inference.test_pipeline import page as drawn_page
from tests.service.web.conftest import DROP, PASTE, Open, browser_test, drop, grey


def test_the_page_needs_no_other_host_and_allows_none(client: TestClient) -> None:
    scripts = [(f"/web/{name}.js", "text/javascript") for name in ("page", "card", "picture", "service")]
    for path, kind in (("/", "text/html"), ("/web/page.css", "text/css"), *scripts):
        response = client.get(path)
        assert response.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "://" not in response.text.replace("http://www.w3.org/2000/svg", "")


@browser_test
@pytest.mark.parametrize("how", [DROP, PASTE], ids=["dropped", "pasted"])
def test_a_picture_shows_its_text_its_boxes_and_its_request(open_page: Open, how: str) -> None:
    page = open_page()
    drop(page, ("a.png", grey(123)), how=how)
    expect(page.locator(".card .text")).to_have_text("123")
    expect(page.locator(".card .name")).to_have_text("a.png")
    expect(page.locator(".card polygon")).to_have_count(3)
    expect(page.locator(".card .figures")).to_contain_text("Confidence 75 %")
    expect(page.locator("#status")).to_have_text("1 of 1 read")
    assert '"text": "123"' in (page.locator(".json pre").text_content() or "")
    assert (page.locator(".curl").text_content() or "").startswith("curl -F 'file=@a.png' 'http://127.0.0.1")


@browser_test
def test_a_page_shows_its_lines_linked_to_their_boxes(open_page: Open, fake: Any) -> None:
    fake.reading = doubtful_from(50)
    page = open_page()
    drop(page, ("page.png", drawn_page((20, 60, 100))))
    expect(page.locator(".card .text")).to_have_text("20\n60\n100", use_inner_text=True)
    expect(page.locator(".lines button")).to_have_count(3)
    expect(page.locator(".card polygon")).to_have_count(3)
    expect(page.locator(".card .figures")).to_contain_text("Mean confidence of 3 lines")
    page.locator(".lines button").nth(1).focus()
    expect(page.locator("polygon.marked")).to_have_count(1)
    assert page.locator("polygon").nth(1).get_attribute("class") == "marked"
    page.locator("polygon").nth(2).hover()
    expect(page.locator(".lines button").nth(2)).to_have_class("marked")
    page.get_by_label("Layout").select_option("line")
    drop(page, ("line.png", drawn_page((20, 60, 100))))
    expect(page.locator("#status")).to_have_text("2 of 2 read")
    expect(page.locator(".card .line-section:not([hidden])")).to_have_count(1)


@browser_test
def test_alternatives_are_shown_where_there_are_any(open_page: Open, fake: Any) -> None:
    fake.reading = lambda image: Reading("B", 0.6, 0.6, (), (Alternative("8", 0.3), Alternative("", 0.01)))
    page = open_page()
    page.get_by_label("Layout").select_option("line")
    page.get_by_label("Rotation").select_option("0")
    drop(page, ("a.png", grey(1)))
    expect(page.locator(".alternatives li")).to_have_text(["8 (30 %)", "no text (1.0 %)"])
    assert fake.asked == [(3, None, "", None)]
    fake.reading = lambda image: Reading("B", 0.6, 0.6, ())
    drop(page, ("b.png", grey(2)))
    expect(page.locator("#status")).to_have_text("2 of 2 read")
    expect(page.locator(".card .alternative-section:not([hidden])")).to_have_count(1)


@browser_test
def test_a_chosen_file_is_read(open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "chosen.png").write_bytes(grey(42))
    page = open_page()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose files").press("Enter")
    chooser.value.set_files(tmp_path / "chosen.png")
    expect(page.locator(".card .text")).to_have_text("42")


@browser_test
def test_a_bad_file_shows_its_error_and_the_good_ones_are_read(open_page: Open) -> None:
    page = open_page()
    drop(page, ("good.png", grey(7)), ("bad.png", b"hello"), ("cut.png", grey(9)[:50]), ("also.png", grey(8)))
    expect(page.locator("#status")).to_have_text("4 of 4 read")
    expect(page.locator(".problem:visible")).to_have_text(
        ["The image is corrupt or cut short.", "The bytes are not those of a PNG, JPEG, WEBP, BMP or TIFF file."]
    )
    expect(page.locator(".text:visible")).to_have_text(["8", "7"])


@browser_test
def test_names_and_texts_are_never_interpreted_as_markup(open_page: Open, fake: Any) -> None:
    evil = "<img src=x onerror=alert(1)>"
    fake.reading = lambda image: Reading(evil, 0.9, 0.9, ())
    page = open_page()
    drop(page, (f"{evil}.png", grey(1)))
    expect(page.locator(".text")).to_have_text(evil)
    assert page.locator("#results img").count() == 1


@browser_test
def test_a_key_is_used_when_one_is_required(open_page: Open) -> None:
    page = open_page(api_keys="a-key-of-sixteen-characters")
    drop(page, ("a.png", grey(5)))
    expect(page.locator(".problem")).to_contain_text("API key")
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("API key").fill("a-key-of-sixteen-characters")
    drop(page, ("a.png", grey(5)))
    expect(page.locator(".text")).to_have_text("5")
    assert "a-key-of" not in (page.locator(".curl").text_content() or "")


@browser_test
def test_a_rejected_request_is_retried(open_page: Open, fake: Any) -> None:
    page = open_page(max_in_flight=1, max_batch_files=1)
    fake.gate.clear()
    drop(page, ("a.png", grey(5)), ("b.png", grey(6)))
    page.wait_for_timeout(200)
    fake.gate.set()
    expect(page.locator("#status")).to_have_text("2 of 2 read")
    expect(page.locator(".text:visible")).to_have_text(["6", "5"])


@browser_test
def test_everything_can_be_reached_by_keyboard_and_has_a_name(open_page: Open) -> None:
    page = open_page()
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached[:5] == ["choose", "mode", "orientation", "key", "clear"]
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input:not([hidden])')]"
        ".filter((control) => !control.textContent.trim() && !control.labels.length).length"
    )
    assert unnamed == 0


@browser_test
def test_there_is_a_light_and_a_dark_theme(open_page: Open) -> None:
    def brightness(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.removeprefix("rgb(").split(",")[0])

    assert brightness(open_page("light")) > 200
    assert brightness(open_page("dark")) < 60


@browser_test
def test_a_file_that_is_not_an_image_shows_no_broken_image(open_page: Open) -> None:
    page = open_page()
    drop(page, ("bad.png", b"hello"))
    expect(page.locator(".problem")).to_be_visible()
    expect(page.locator(".picture")).to_be_hidden()


@browser_test
def test_the_documentation_opens_without_the_internet(open_page: Open) -> None:
    page = open_page()
    page.route(lambda url: "127.0.0.1" not in url, lambda route: route.abort())
    page.goto(page.url + "docs")
    expect(page.get_by_text("Read the text of one image")).to_be_visible()

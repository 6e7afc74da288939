"""A real browser that opens the demo page of a service with the fake reader."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from linewise.service.app import create_app
from linewise.service.settings import Settings
from tests.service.conftest import FakePages, FakeReader, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser_test = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium on this machine")

# Playwright cannot drop files, so a script dispatches the event.
DROP = """([files]) => {
    const transfer = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        transfer.items.add(new File([bytes], name, {type: "image/png"}));
    }
    document.getElementById("drop").dispatchEvent(
        new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
PASTE = DROP.replace("DragEvent", "ClipboardEvent").replace('"drop", {dataTransfer', '"paste", {clipboardData')


def grey(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (120, 40), value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def shared_fake() -> FakeReader:
    return FakeReader()


@pytest.fixture
def fake(shared_fake: FakeReader) -> FakeReader:
    shared_fake.reset()
    return shared_fake


@pytest.fixture(scope="module")
def default_port(shared_fake: FakeReader) -> Iterator[int]:
    """Port of a service with default settings, shared by the tests of this module."""
    with serving(create_app(Settings(), shared_fake, FakePages())) as port:
        yield port


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, fake: FakeReader, default_port: int) -> Iterator[Open]:
    """Open the page of a service with the given settings; script and security errors fail the test."""
    errors: list[str] = []
    with ExitStack() as opened:

        def begin(scheme: str = "light", device: dict[str, Any] | None = None, **settings: Any) -> Page:
            port = default_port
            if settings:
                port = opened.enter_context(serving(create_app(Settings(**settings), fake, FakePages())))
            page = browser.new_page(color_scheme=scheme, **device or {})  # type: ignore[arg-type]
            opened.callback(page.close)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
            page.goto(f"http://127.0.0.1:{port}/")
            return page

        yield begin
    assert errors == []


def drop(page: Page, *pictures: tuple[str, bytes], how: str = DROP) -> None:
    page.evaluate(how, [[[name, base64.b64encode(content).decode()] for name, content in pictures]])

"""The plugin in OCRmyPDF itself: pages kept, words in their places, errors in its manner."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from shutil import which
from types import SimpleNamespace
from typing import Any

import numpy as np
import pypdfium2
import pytest
from PIL import Image, ImageDraw

from linewise.model.network.checkpoint import DEFAULT_PATH

pytest.importorskip("ocrmypdf", reason="OCRmyPDF is not installed: pip install 'linewise[ocrmypdf]'")
plugin = pytest.importorskip("linewise.service.integrations.ocrmypdf")

MODULE = "linewise.service.integrations.ocrmypdf"
DPI = 200
WORDS = [["Invoice", "number", "10427"], ["Delivery", "of", "seventeen", "chairs"], ["Total", "amount", "358.20"]]
POINTS = 72 / DPI

needs_host = pytest.mark.skipif(
    which("gs") is None or not DEFAULT_PATH.is_file(), reason="needs Ghostscript (the Debian package) and the weights"
)


def draw() -> tuple[Image.Image, dict[str, tuple[float, float, float, float]]]:
    """A page with some lines of print, and the box of each word: left, top, right, bottom in pixels."""
    page = Image.new("L", (1200, 900), 255)
    pen = ImageDraw.Draw(page)
    boxes = {}
    for number, words in enumerate(WORDS * 2):
        x, y = 150.0, 120.0 + 110 * number
        for word in words:
            pen.text((x, y), word, fill=20, font_size=44)
            boxes[word] = pen.textbbox((x, y), word, font_size=44)  # of the last line that has it
            x = boxes[word][2] + 16
    return page, boxes


def ocrmypdf(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the host in a folder; the plugin is named unless the installed package announces it."""
    announced = any(entry.value == MODULE for entry in entry_points(group="ocrmypdf"))
    named = [] if announced else ["--plugin", MODULE]
    return subprocess.run(
        [sys.executable, "-m", "ocrmypdf", *named, *arguments],
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def without_tesseract(tmp_path: Path) -> str:
    """A PATH with Ghostscript and without tesseract."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").symlink_to(which("gs") or "gs")
    return str(folder)


def rendered(page: Any) -> np.ndarray[Any, Any]:
    return np.asarray(page.render(scale=1 / POINTS).to_pil().convert("L"), np.int16)


def places(page: Any, word: str) -> list[tuple[float, float, float, float]]:
    """Boxes of a word wherever a search finds it: left, top, right, bottom in pixels of the drawing."""
    text = page.get_textpage()
    search, found = text.search(word, match_case=True), []
    while (match := search.get_next()) is not None:
        first, count = match
        corners = np.array([text.get_charbox(index) for index in range(first, first + count)])
        left, bottom = map(float, corners[:, :2].min(0))
        right, top = map(float, corners[:, 2:].max(0))
        height = page.get_height()
        found.append((left / POINTS, (height - top) / POINTS, right / POINTS, (height - bottom) / POINTS))
    return found


@pytest.mark.slow
@needs_host
def test_the_page_is_kept_and_each_word_is_found_at_its_place(tmp_path: Path, without_tesseract: str) -> None:
    drawing, boxes = draw()
    drawing.save(tmp_path / "in.pdf", resolution=DPI)
    result = ocrmypdf(tmp_path, "--sidecar", "text.txt", "in.pdf", "out.pdf", PATH=without_tesseract)  # auto
    assert result.returncode == 0, result.stderr
    assert "Tesseract is not installed: Linewise reads the pages" in result.stderr
    assert (tmp_path / "text.txt").read_text().split() == [word for words in WORDS * 2 for word in words]
    (before,), (after,) = pypdfium2.PdfDocument(tmp_path / "in.pdf"), pypdfium2.PdfDocument(tmp_path / "out.pdf")
    assert b"pdfaid" in (tmp_path / "out.pdf").read_bytes()
    assert before.get_size() == after.get_size()
    assert np.abs(rendered(before) - rendered(after)).mean() < 0.5
    for word, (left, top, right, bottom) in boxes.items():
        found = places(after, word)
        assert len(found) == 2, word
        x0, y0, x1, y1 = found[-1]
        assert abs(x0 - left) < 20 and abs(x1 - right) < 20, word
        assert y0 < (top + bottom) / 2 < y1 and y1 - y0 < 120, word


@pytest.mark.slow
@needs_host
def test_pages_are_turned_upright_and_straightened(tmp_path: Path) -> None:
    drawing, _ = draw()
    skewed = drawing.rotate(2.5, expand=True, fillcolor=255, resample=Image.Resampling.BICUBIC)
    turned = [drawing.rotate(angle, expand=True) for angle in (90, 180, 270)]
    turned[0].save(tmp_path / "in.pdf", save_all=True, append_images=[*turned[1:], skewed], resolution=DPI)
    options = ("--ocr-engine", "linewise", "--rotate-pages", "--deskew", "--output-type", "pdf")
    result = ocrmypdf(tmp_path, *options, "in.pdf", "out.pdf")
    assert result.returncode == 0, result.stderr
    for page in pypdfium2.PdfDocument(tmp_path / "out.pdf"):
        assert page.get_width() > page.get_height()
        (left, top, _, bottom), *_ = places(page, "Invoice")
        assert left < page.get_width() / POINTS / 4 and top < page.get_height() / POINTS / 3
        (_, last_top, _, _) = places(page, "10427")[0]
        assert abs(last_top - top) < (bottom - top) / 2  # on one height with the first word of the line


@pytest.mark.slow
@needs_host
@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["in.pdf"], {"LINEWISE_URL": "http://127.0.0.1:9"}, 3, "http://127.0.0.1:9 (LINEWISE_URL) is away"),
        (["in.pdf"], {"LINEWISE_URL": "nowhere"}, 3, "LINEWISE_URL must be an address"),
        (["in.pdf"], {"LINEWISE_MAX_SIDE": "0"}, 3, "LINEWISE_MAX_SIDE"),
        (["-l", "xyz", "in.pdf"], {}, 3, "xyz"),
        (["broken.pdf"], {}, 2, "InputFileError"),
        (["--pdf-renderer", "sandwich", "in.pdf"], {}, 3, "needs --pdf-renderer fpdf2"),
    ],
)
def test_errors_have_the_manner_and_the_exit_codes_of_the_host(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], code: int, words: str
) -> None:
    draw()[0].save(tmp_path / "in.pdf", resolution=DPI)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    result = ocrmypdf(tmp_path, "--ocr-engine", "linewise", *arguments, "out.pdf", **environment)
    assert result.returncode == code, result.stderr
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out.pdf").exists()


def test_auto_takes_the_engine_only_where_tesseract_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(engine: str) -> bool:
        return plugin.get_ocr_engine(options=SimpleNamespace(ocr_engine=engine)) is not None

    monkeypatch.setattr(plugin, "which", lambda name: f"/usr/bin/{name}")
    assert [chosen(name) for name in ("auto", "linewise", "tesseract", "none")] == [False, True, False, False]
    monkeypatch.setattr(plugin, "which", lambda name: None)
    assert [chosen(name) for name in ("auto", "linewise", "tesseract", "none")] == [True, True, False, False]

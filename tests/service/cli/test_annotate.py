"""``linewise read --annotate``: boxes over the picture, the text beside it; and progress on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from linewise.model.annotate import confidence_colour
from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.bulk.annotate import draw
from linewise.service.cli import main
from linewise.service.documents.image import UprightImage
from tests.service.formats.samples import document_of, line_of

DATA = Path(__file__).parents[2] / "data"

shipped = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason=f"no {DEFAULT_PATH.name} in this tree")


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main.app, ["read", *map(str, arguments)])


def test_words_have_boxes_in_the_colour_of_their_confidence_and_texts_stand_beside_them() -> None:
    page = document_of([line_of("ab cd", (100, 80), advance=60, height=120)], size=(1600, 1200)).pages[0]
    image = UprightImage(np.full((600, 800), 250, np.uint8), 1600, 1200, "PNG", 0, 2.0)
    picture = draw(image, page)
    assert picture.shape == (600, 1600, 3)
    left, right = picture[:, :800], picture[:, 800:]
    first = page.lines[0].words[0]
    assert left[40, 65].astype(int) == pytest.approx(
        confidence_colour(first.confidence), abs=40
    )  # the upper edge, with a soft rim
    assert tuple(left[300, 400]) == (250, 250, 250)
    rows, columns = np.nonzero((right != 255).any(axis=2))
    assert rows.min() >= 40 and rows.max() <= 100 and columns.min() >= 50 and columns.max() <= 200


def test_a_small_grey_line_is_enlarged_and_a_turned_page_is_drawn_upright() -> None:
    page = document_of([line_of("ab", (4, 4))], size=(60, 40)).pages[0]
    assert draw(UprightImage(np.full((40, 60), 250, np.uint8), 60, 40, "PNG", 0, 1.0), page).shape == (160, 480, 3)
    turned = UprightImage(np.full((400, 300, 3), 250, np.uint8), 300, 400, "PNG", 0, 1.0)
    (sideways,) = document_of([line_of("ab")]).pages
    assert draw(turned, replace(sideways, turn=90)).shape == (300, 800, 3)


def test_colours_run_from_red_to_green() -> None:
    assert [np.argmax(confidence_colour(confidence)) for confidence in (0.0, 1.0)] == [0, 1]
    assert confidence_colour(0.3) != confidence_colour(0.6)


@shipped
def test_each_page_of_a_document_is_drawn(tmp_path: Path) -> None:
    receipt = Image.open(DATA / "cafe.jpg")
    receipt.save(tmp_path / "two.tif", save_all=True, append_images=[receipt.rotate(180)])
    result = run("--annotate", tmp_path / "out.png", tmp_path / "two.tif")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("out.png", "out-2.png"))
    assert first.shape == second.shape == (receipt.height, 2 * receipt.width, 3)
    assert (first[:, receipt.width :] != 255).mean() > 0.005
    line = run("--mode", "line", "--annotate", tmp_path / "line.png", DATA / "receipt.png")
    assert line.exit_code == 0 and (tmp_path / "line.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--format", "hocr", "receipt.png"], 2, "--annotate"),
        (["receipt.png", "cafe.jpg"], 2, "--annotate takes one image, not 2"),
        (["--output", "rows.jsonl", "receipt.png"], 2, "leave out --annotate"),
    ],
)
def test_what_cannot_be_drawn_is_said(arguments: list[str], code: int, problem: str) -> None:
    paths = [str(DATA / one) if one.endswith(("png", "jpg")) else one for one in arguments]
    result = run("--annotate", "out.png", *paths)
    assert (result.exit_code, result.stdout) == (code, "") and problem in result.stderr


@shipped
@pytest.mark.parametrize("path", ["missing/out.png", "out.unknown"])
def test_a_picture_that_cannot_be_written_is_one_line(tmp_path: Path, path: str) -> None:
    result = run("--mode", "line", "--annotate", tmp_path / path, DATA / "receipt.png")
    assert result.exit_code == 1 and path in result.stderr and len(result.stderr.splitlines()) == 1


@shipped
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_the_pages_of_a_single_document_show_progress_on_a_terminal(tmp_path: Path) -> None:
    line = Image.open(DATA / "receipt.png").convert("L")
    line.save(tmp_path / "two.tif", save_all=True, append_images=[line])
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "linewise", "read", str(tmp_path / "two.tif")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "80"}
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "reading" in shown and "/2" in shown
    assert result.stdout.decode().split() == ["TOTAL", "EUR", "12.50"] * 2

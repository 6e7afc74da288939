"""``linewise read`` without options, on the shipped weights: a line, a photo of a receipt, a document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.cli import main

DATA = Path(__file__).parents[2] / "data"

pytestmark = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason=f"no {DEFAULT_PATH.name} in this tree")


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main.app, ["read", *map(str, arguments)])


def test_a_line_and_a_receipt_are_told_apart() -> None:
    result = run(DATA / "receipt.png", DATA / "cafe.jpg")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{DATA}/receipt.png\tTOTAL EUR 12.50"
    assert f"{DATA}/cafe.jpg\tCAFÉ LINDE" in lines and f"{DATA}/cafe.jpg\tSUMME EUR\t30,90" in lines


def test_a_document_of_several_pages_is_read_as_json(tmp_path: Path) -> None:
    receipt = Image.open(DATA / "cafe.jpg")
    receipt.save(tmp_path / "two.tif", save_all=True, append_images=[receipt.rotate(180)])
    result = run("--json", tmp_path / "two.tif")
    pages = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(page["page"], page["turn"]) for page in pages] == [(1, 0), (2, 180)]
    assert all(page["text"].startswith("CAFÉ LINDE") for page in pages)


def test_the_mode_can_be_given(tmp_path: Path) -> None:
    assert run("--mode", "line", "--format", "text", DATA / "receipt.png").stdout == "TOTAL EUR 12.50\n"
    page = json.loads(run("--mode", "page", "--json", DATA / "receipt.png").stdout)
    assert "lines" in page
    contradiction = run("--page", "--mode", "line", DATA / "receipt.png")
    assert (contradiction.exit_code, contradiction.stdout) == (2, "")
    assert "--mode line" in contradiction.stderr
    rows = run("--mode", "page", "--output", tmp_path / "rows.jsonl", DATA / "receipt.png")
    assert rows.exit_code == 2 and "--output adds rows" in rows.stderr


def test_formats_follow_what_the_image_is(tmp_path: Path) -> None:
    result = run("--format", "hocr", "--output", tmp_path, DATA / "receipt.png", DATA / "cafe.jpg")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "receipt.hocr").read_text().count("ocr_line") == 2  # in the capabilities and once in the page
    assert (tmp_path / "cafe.hocr").read_text().count("ocr_line") > 15

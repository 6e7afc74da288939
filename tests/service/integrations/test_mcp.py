"""The MCP server, driven over standard input and output by the client of the ``mcp`` package."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.cli import main

DATA = Path(__file__).resolve().parents[2] / "data"
needs_weights = pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")

Call = tuple[str, dict[str, Any]]


async def converse(folders: list[Path], environment: dict[str, str], calls: list[Call]) -> list[CallToolResult]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "linewise", "mcp", *map(str, folders)],
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    async with asyncio.timeout(120), Client(stdio_client(server)) as client:
        return [await client.call_tool(name, arguments) for name, arguments in calls]


def text(result: CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page of dark bars, a PDF of three, and files that are not for reading."""
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    bars(2).save(inside / "page.png")
    first, *others = [bars(count) for count in (1, 2, 3)]
    first.save(inside / "sub" / "three.pdf", save_all=True, append_images=others, resolution=200)
    bars(1).save(tmp_path / "outside.png")
    (inside / "link.png").symlink_to(tmp_path / "outside.png")
    (inside / "away").symlink_to(tmp_path)
    (inside / "notes.png").write_text("no picture")
    (inside / "alias.png").symlink_to("page.png")
    os.mkfifo(inside / "pipe.png")
    return inside


def bars(count: int) -> Image.Image:
    page = Image.new("L", (300, 200), 255)
    for number in range(count):
        for left in range(0, 300, 10):  # a line of ink has strokes; their mean, 20, is what the fake recogniser reads
            stroke = (left, 20 + 50 * number, left + 9, 40 + 50 * number)
            ImageDraw.Draw(page).rectangle(stroke, fill=10 if left % 20 else 30)
    return page


@pytest.fixture
def ask(
    folder: Path, serve: Callable[..., AbstractContextManager[int]]
) -> Iterator[Callable[..., list[CallToolResult]]]:
    """Call tools of a server that reads by a service with the fake recogniser."""
    with serve() as port:
        environment = {"LINEWISE_URL": f"http://127.0.0.1:{port}"}
        yield lambda *calls: asyncio.run(converse([folder], environment, list(calls)))


def test_images_and_pages_of_a_pdf_are_read_as_text_or_with_places(ask: Any, folder: Path) -> None:
    plain, placed, line, alias, chosen, everything, one = ask(
        ("read_image", {"path": "page.png"}),
        ("read_image", {"path": "page.png", "places": True}),
        ("read_image", {"path": "page.png", "mode": "line"}),
        ("read_image", {"path": "alias.png"}),
        ("read_pdf", {"path": str(folder / "sub" / "three.pdf"), "pages": [3, 1]}),
        ("read_pdf", {"path": "sub/three.pdf"}),
        ("read_pdf", {"path": "sub/three.pdf", "pages": [2], "places": True}),
    )
    assert not plain.is_error and text(plain) == "20\n20" == text(alias)
    (page,) = json.loads(text(placed))["pages"]
    assert (page["page"], page["width"], page["height"]) == (1, 300, 200)
    assert [line["box"] for line in page["lines"]] == [[0, 20, 300, 41], [0, 70, 300, 91]]
    assert [(line["text"], line["confidence"]) for line in page["lines"]] == [("20", 0.75)] * 2
    assert text(line) == "206"

    assert text(chosen) == "[page 3]\n20\n20\n20\n\n[page 1]\n20"
    assert text(everything) == "[page 1]\n20\n\n[page 2]\n20\n20\n\n[page 3]\n20\n20\n20"
    (page,) = json.loads(text(one))["pages"]
    assert page["page"] == 2 and len(page["lines"]) == 2


OUTSIDE = "outside the folders that may be read, which are "
BAD_REQUESTS = [
    ("read_image", {"path": "../outside.png"}, f"../outside.png: {OUTSIDE}"),
    ("read_image", {"path": "sub/../../outside.png"}, OUTSIDE),
    ("read_image", {"path": "link.png"}, f"link.png: {OUTSIDE}"),
    ("read_image", {"path": "away/outside.png"}, OUTSIDE),
    ("read_image", {"path": "/etc/passwd"}, f"/etc/passwd: {OUTSIDE}"),
    ("read_pdf", {"path": "/etc/none"}, f"/etc/none: {OUTSIDE}"),
    ("read_image", {"path": "~"}, "~: No such file or directory"),
    ("read_image", {"path": "none.png"}, "none.png: No such file or directory"),
    ("read_image", {"path": "sub"}, "sub: not a file"),
    ("read_image", {"path": "pipe.png"}, "pipe.png: not a file"),
    ("read_image", {"path": "a\0b"}, "no file can have this path"),
    ("read_image", {"path": "notes.png"}, "notes.png: The bytes are not those of a PNG"),
    ("read_image", {"path": "sub/three.pdf"}, "sub/three.pdf: a PDF; use read_pdf"),
    ("read_image", {"path": "page.png", "mode": "word"}, "'auto', 'page' or 'line'"),
    ("read_pdf", {"path": "page.png"}, "page.png: not a PDF; use read_image"),
    ("read_pdf", {"path": "sub/three.pdf", "pages": [4]}, "there is no page 4; its pages are numbered 1 to 3"),
    ("read_pdf", {"path": "sub/three.pdf", "pages": [0]}, "there is no page 0"),
    ("read_pdf", {"path": "sub/three.pdf", "pages": []}, "name 1 to 50 of its 3"),
]


def test_bad_requests_and_files_outside_the_folders_are_answered_with_the_reason(ask: Any) -> None:
    for (_, arguments, words), result in zip(BAD_REQUESTS, ask(*(call[:2] for call in BAD_REQUESTS)), strict=True):
        assert result.is_error, arguments
        assert words in text(result)


def test_a_service_that_is_away_is_an_error_of_the_tool(folder: Path) -> None:
    environment = {"LINEWISE_URL": "http://user:secret@127.0.0.1:9"}
    (result,) = asyncio.run(converse([folder], environment, [("read_image", {"path": "page.png"})]))
    assert result.is_error
    assert "the service at http://127.0.0.1:9 (LINEWISE_URL) is away: Connection refused" in text(result)


@needs_weights
def test_the_networks_of_the_package_read_by_themselves() -> None:
    (result,) = asyncio.run(converse([DATA], {}, [("read_image", {"path": "receipt.png"})]))
    assert text(result) == "TOTAL EUR 12.50"


def test_a_missing_folder_and_a_bad_address_end_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main.app, ["mcp", str(tmp_path / "none")])
    assert (result.exit_code, result.stderr) == (2, f"linewise: {tmp_path}/none: No such file or directory\n")
    monkeypatch.setenv("LINEWISE_URL", "ftp://host")
    result = CliRunner().invoke(main.app, ["mcp", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr == "linewise: LINEWISE_URL must be an address such as http://127.0.0.1:8000\n"

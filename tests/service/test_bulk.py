"""Many images to rows: each once, in order, whatever is wrong with one of them and wherever a run was cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from model.checkpoint import DEFAULT_PATH
from service import cli
from service.bulk import TOGETHER, BulkError, Row, RowFile, rows
from service.settings import Settings
from tests.service.conftest import FakeReader, Pixels

LIMITS = Settings().image_limits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two lists and a half of pictures, each of its own grey."""
    place = tmp_path / "lines"
    place.mkdir()
    for number in range(2 * TOGETHER + TOGETHER // 2):
        Image.new("L", (20, 10), number).save(place / f"{number:03}.png")
    return place


def files_of(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def bulk(monkeypatch: pytest.MonkeyPatch, fake: FakeReader, *arguments: object) -> Any:
    monkeypatch.setattr("service.app.load_reader", lambda settings: fake)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return CliRunner().invoke(cli.app, ["read", *map(str, arguments)])


def test_rows_come_in_the_order_of_the_images(folder: Path, fake: FakeReader) -> None:
    names = files_of(folder)
    found = list(rows(fake, names, LIMITS, None, threads=3))
    assert [row.id for row in found] == names
    assert [row.text for row in found] == ["" if n == 0 else str(n) for n in range(len(names))]
    assert {row.error for row in found} == {None}


def test_what_cannot_be_opened_is_a_row_with_an_error(folder: Path, fake: FakeReader) -> None:
    names = files_of(folder)
    Path(names[3]).write_bytes(b"no picture")
    Path(names[70]).unlink()
    found = {row.id: row for row in rows(fake, names, LIMITS, None, threads=2)}
    assert found[names[3]].error == "The bytes are not those of a PNG, JPEG, WEBP, BMP or TIFF file."
    assert found[names[70]].error == "No such file or directory."
    assert found[names[3]].text is None
    assert sum(row.error is not None for row in found.values()) == 2


def test_an_image_that_breaks_the_reader_harms_no_other(folder: Path, fake: FakeReader) -> None:
    names = files_of(folder)
    read = fake.read

    def breaks(images: Sequence[Pixels], decodings: Sequence[Any] | None = None) -> Any:
        if any(image[0, 0] == 5 for image in images):
            raise RuntimeError("boom")
        return read(images, decodings)

    fake.read = breaks  # type: ignore[method-assign]
    found = list(rows(fake, names, LIMITS, None, threads=2))
    assert [row.id for row in found] == names
    assert [row.id for row in found if row.error] == [names[5]]
    assert found[5] == Row(names[5], None, None, "The image could not be read: RuntimeError.")


def test_the_command_writes_a_row_for_each_image_and_says_so(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    result = bulk(monkeypatch, fake, folder, folder / "000.png", "--output", out)
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in written(out)] == files_of(folder)
    assert "160 rows added" in result.stderr and "0 of them with an error, 0 were there" in result.stderr
    assert result.stdout == ""


def test_a_second_run_adds_what_is_missing_and_nothing_twice(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    bulk(monkeypatch, fake, folder, "--output", whole)
    lines = whole.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:70]) + lines[70][:20])  # as a crash in the middle of a line leaves it
    result = bulk(monkeypatch, fake, folder, "--output", out)
    assert "90 rows added" in result.stderr and "70 were there" in result.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert "0 rows added" in bulk(monkeypatch, fake, folder, "--output", out).stderr
    assert out.read_bytes() == whole.read_bytes()


def test_a_file_of_something_else_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / "notes.jsonl"
    other.write_text('{"id": "a"}\n{"note": "mine"}\n')
    with pytest.raises(BulkError, match=r"line 2: not a row"):
        RowFile(other)
    assert other.read_text() == '{"id": "a"}\n{"note": "mine"}\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "out.csv"], "name a file that ends in .jsonl"),
        (["--output", "nowhere/out.jsonl"], "No such file or directory"),
        (["--output", "out.jsonl", "--json"], "leave out --json"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bulk(monkeypatch, fake, folder, *arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")
def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    place = tmp_path / "lines"
    place.mkdir()
    for number in range(600):
        picture = Image.new("L", (40 + 7 * (number % 40), 24), 250)
        ImageDraw.Draw(picture).text((4, 4), f"{number}", fill=10, font_size=16)
        picture.save(place / f"{number:04}.png")
    command = [sys.executable, "-m", "service.cli", "read", str(place), "--output"]
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    process = subprocess.Popen([*command, str(out)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out.is_file() and out.stat().st_size) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    for path in (out, whole):
        subprocess.run([*command, str(path)], check=True, capture_output=True, env=os.environ, timeout=300)
    assert [row["id"] for row in written(out)] == files_of(place)
    assert out.read_bytes() == whole.read_bytes()

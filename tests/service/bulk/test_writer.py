"""Rows of many images: each once and in order, with errors as rows, and after interrupted runs."""

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

from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.service.bulk.writer import BATCH_SIZE_IMAGES, BulkError, Row, RowFile, read_rows
from linewise.service.cli import main
from linewise.service.inference.results import ModelLost
from linewise.service.settings import Settings
from tests.service.conftest import FakeReader, Pixels

LIMITS = Settings().image_limits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two batches and a half of pictures, each with its own brightness."""
    path = tmp_path / "lines"
    path.mkdir()
    for number in range(2 * BATCH_SIZE_IMAGES + BATCH_SIZE_IMAGES // 2):
        Image.new("L", (20, 10), number).save(path / f"{number:03}.png")
    return path


def files_of(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def bulk(monkeypatch: pytest.MonkeyPatch, fake: FakeReader, *arguments: object) -> Any:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: fake)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return CliRunner().invoke(main.app, ["read", *map(str, arguments)])


def test_rows_come_in_the_order_of_the_images(folder: Path, fake: FakeReader) -> None:
    names = files_of(folder)
    results = list(read_rows(fake, names, LIMITS, None, threads=3))
    assert [row.id for row in results] == names
    assert [row.text for row in results] == ["" if n == 0 else str(n) for n in range(len(names))]
    assert {row.error for row in results} == {None}


def test_an_image_that_cannot_be_opened_is_a_row_with_an_error(folder: Path, fake: FakeReader) -> None:
    names = files_of(folder)
    Path(names[3]).write_bytes(b"no picture")
    Path(names[70]).unlink()
    results = {row.id: row for row in read_rows(fake, names, LIMITS, None, threads=2)}
    assert results[names[3]].error == "The bytes are not those of a PNG, JPEG, WEBP, BMP or TIFF file."
    assert results[names[70]].error == "No such file or directory."
    assert results[names[3]].text is None
    assert sum(row.error is not None for row in results.values()) == 2


def test_an_image_that_makes_the_reader_fail_affects_no_other(folder: Path, fake: FakeReader) -> None:
    names = files_of(folder)
    read = fake.read

    def breaks(images: Sequence[Pixels], decodings: Sequence[Any] | None = None) -> Any:
        if any(image[0, 0] == 5 for image in images):
            raise RuntimeError("boom")
        return read(images, decodings)

    fake.read = breaks  # type: ignore[method-assign]
    results = list(read_rows(fake, names, LIMITS, None, threads=2))
    assert [row.id for row in results] == names
    assert [row.id for row in results if row.error] == [names[5]]
    assert results[5] == Row(names[5], None, None, "The image could not be read: RuntimeError.")


class AcceleratorError(RuntimeError):
    """As torch raises it for a lost device."""


@pytest.mark.parametrize(
    "error",
    [
        AcceleratorError("CUDA error: device-side assert triggered\nCompile with ..."),
        ModelLost("the model process has ended"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_lost_model_ends_the_run_and_the_next_run_reads_what_follows(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    out, names, read = tmp_path / "out.jsonl", files_of(folder), fake.read
    monkeypatch.setenv("LINEWISE_THREADS", "1")
    Path(names[3]).write_bytes(b"no picture")

    def lost(images: Sequence[Pixels], decodings: Sequence[Any] | None = None) -> Any:
        if fake.failure is None and any(image[0, 0] == BATCH_SIZE_IMAGES for image in images):
            fake.failure = error
        return read(images, decodings)

    fake.read = lost  # type: ignore[method-assign]
    result = bulk(monkeypatch, fake, folder, "--output", out)
    assert result.exit_code == 1
    reason = str(error).splitlines()[0]
    assert result.stderr == (
        f"linewise: the model is lost: {type(error).__name__}: {reason}; start the same command again to go on\n"
    )
    assert [row["id"] for row in written(out)] == names[:BATCH_SIZE_IMAGES]
    fake.reset()
    assert "96 rows added" in bulk(monkeypatch, fake, folder, "--output", out).stderr
    assert [row["id"] for row in written(out) if row["error"]] == [names[3]]


def test_the_command_writes_a_row_for_each_image_and_a_summary(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    result = bulk(monkeypatch, fake, folder, folder / "000.png", "--output", out)
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in written(out)] == files_of(folder)
    assert "160 rows added" in result.stderr and "0 of them with an error, 0 were there" in result.stderr
    assert result.stdout == ""


def test_a_second_run_adds_missing_rows_and_none_twice(
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


def test_a_file_with_other_content_is_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "notes.jsonl"
    content = '{"id": "a", "text": "A", "confidence": 0.5, "error": null}\n{"note": "mine"}\n'
    other.write_text(content)
    with pytest.raises(BulkError, match=r"line 2: not a row"):
        RowFile(other)
    assert other.read_text() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out.csv"], "name a file that ends in .jsonl"),
        (["--output", "nowhere/out.jsonl"], "No such file or directory"),
        (["--output", "out.jsonl", "--json"], "leave out --json"),
    ],
)
def test_an_unusable_output_is_one_line_on_standard_error(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bulk(monkeypatch, fake, folder, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(not DEFAULT_PATH.is_file(), reason="no weights in this tree")
def test_a_killed_run_resumes_and_writes_the_rows_of_an_uninterrupted_one(tmp_path: Path) -> None:
    pictures = tmp_path / "lines"
    pictures.mkdir()
    for number in range(600):
        picture = Image.new("L", (40 + 7 * (number % 40), 24), 250)
        ImageDraw.Draw(picture).text((4, 4), f"{number}", fill=10, font_size=16)
        picture.save(pictures / f"{number:04}.png")
    command = [sys.executable, "-m", "linewise", "read", str(pictures), "--output"]
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
    assert [row["id"] for row in written(out)] == files_of(pictures)
    assert out.read_bytes() == whole.read_bytes()


# Tables ---------------------------------------------------------------------------------------------------------------


def table(file: Path, /, **columns: list[Any]) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="the extra ray is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), file, row_group_size=7)
    return file


def read_table(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    return rows


def test_tables_of_bytes_of_paths_and_of_both_give_the_rows_of_the_files(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = files_of(folder)[:20]
    contents: list[Any] = [Path(name).read_bytes() for name in names]
    bulk(monkeypatch, fake, *names, "--output", tmp_path / "files.jsonl")
    expected_values = [(row["text"], row["confidence"], row["error"]) for row in written(tmp_path / "files.jsonl")]
    ids = [f"line {number}" for number in range(20)]
    tables = {
        "bytes": table(tmp_path / "bytes.parquet", id=ids, image=contents),
        "paths": table(tmp_path / "paths.parquet", path=names),
        "structs": table(
            tmp_path / "structs.parquet", id=ids, image=[{"bytes": one, "path": "x.png"} for one in contents]
        ),
        "numbers": table(tmp_path / "numbers.parquet", id=list(range(20)), path=names, other=ids),
    }
    expected = {"bytes": ids, "paths": names, "structs": ids, "numbers": [str(number) for number in range(20)]}
    for kind, path in tables.items():
        out = tmp_path / f"{kind}.jsonl"
        result = bulk(monkeypatch, fake, path, "--output", out)
        assert result.exit_code == 0, result.output
        assert [row["id"] for row in written(out)] == expected[kind]
        assert [(row["text"], row["confidence"], row["error"]) for row in written(out)] == expected_values


def test_a_row_of_a_table_without_a_good_image_is_a_row_with_an_error(
    fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "in.parquet", id=["none", "bad", "bad"], image=[None, b"no picture", b"other"])
    assert bulk(monkeypatch, fake, path, "--output", tmp_path / "out.jsonl").exit_code == 0
    errors = {row["id"]: row["error"] for row in written(tmp_path / "out.jsonl")}
    assert errors == {
        "none": "The row holds no image.",
        "bad": "The bytes are not those of a PNG, JPEG, WEBP, BMP or TIFF file.",
    }
    assert len(written(tmp_path / "out.jsonl")) == 2  # of two rows of one name the first counts


def test_a_table_is_replaced_atomically_and_extended_by_the_next_run(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lines = tmp_path / "out.parquet", tmp_path / "lines.jsonl"
    table(tmp_path / "needs.parquet", path=["x"])  # skips without the extra
    names = files_of(folder)
    Path(names[3]).write_bytes(b"no picture")
    bulk(monkeypatch, fake, folder, "--output", lines)
    assert bulk(monkeypatch, fake, *names[:100], "--output", out).exit_code == 0
    assert [row["id"] for row in read_table(out)] == names[:100]
    result = bulk(monkeypatch, fake, folder, "--output", out)
    assert "60 rows added" in result.stderr and "100 were there" in result.stderr
    assert read_table(out) == written(lines)
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.parquet"]


@pytest.mark.parametrize("moment", ["while it was read", "while the table was written", "after the table was written"])
def test_a_run_that_writes_a_table_can_be_interrupted_anywhere_without_lost_or_double_rows(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    out, journal, whole = tmp_path / "out.parquet", tmp_path / "out.parquet.jsonl", tmp_path / "whole.jsonl"
    table(tmp_path / "needs.parquet", path=["x"])
    names = files_of(folder)
    bulk(monkeypatch, fake, folder, "--output", whole)
    bulk(monkeypatch, fake, *names[:50], "--output", out)
    lines = whole.read_bytes().splitlines(keepends=True)
    if moment == "while it was read":
        journal.write_bytes(b"".join(lines[50:70]) + lines[70][:10])
    else:
        journal.write_bytes(b"".join(lines[50:]))
        (tmp_path / "out.parquet.part").write_bytes(b"half a table")
    if moment == "after the table was written":
        bulk(monkeypatch, fake, folder, "--output", out)
        journal.write_bytes(b"".join(lines[50:]))
    fake.seen.clear()
    assert bulk(monkeypatch, fake, folder, "--output", out).exit_code == 0
    assert read_table(out) == written(whole)
    assert len(fake.seen) == (90 if moment == "while it was read" else 0)
    assert not journal.exists()


def test_an_unusable_table_is_one_line_on_standard_error(
    fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = table(tmp_path / "other.parquet", name=["a"], size=[1])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    out = tmp_path / "out.jsonl"
    for arguments, message in (
        ([other, "--output", out], "other.parquet: needs the columns id and image, or path"),
        ([broken, "--output", out], "broken.parquet: cannot be read as Parquet"),
        ([other, "--output", other], "other.parquet: not a table of linewise read"),
        ([table(tmp_path / "null.parquet", id=["a", None], image=[b"", b""]), "--output", out], "neither id nor path"),
    ):
        result = bulk(monkeypatch, fake, *arguments)
        assert result.exit_code == 1 and message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert read_table(other) == [{"name": "a", "size": 1}]


def test_without_pyarrow_the_error_names_the_extra_to_install(
    folder: Path, fake: FakeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = bulk(monkeypatch, fake, folder, "--output", tmp_path / "out.parquet")
    assert result.exit_code == 1
    assert result.stderr == "linewise: not installed: pyarrow; Parquet needs pip install 'linewise[ray]'\n"

"""Names that are not UTF-8, and columns of tables with other types than expected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from linewise.service.cli import main
from tests.service.conftest import FakeReader, encode

PICTURE = encode(Image.new("L", (20, 10), 7))
LATIN = os.fsdecode(b"caf\xe9.png")


@pytest.fixture(autouse=True)
def fake_reader(monkeypatch: pytest.MonkeyPatch, fake: FakeReader, tmp_path: Path) -> FakeReader:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: fake)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return fake


def read(*arguments: str) -> Any:
    return CliRunner().invoke(main.app, ["read", *arguments])


def rows_in(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text("utf-8").splitlines()]


def write_table(name: str, **columns: Any) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra ray is not installed")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), name)


@pytest.mark.parametrize("output", ["out.jsonl", "out.parquet"])
def test_a_name_that_is_not_utf8_is_written_with_escapes_and_read_once(fake: FakeReader, output: str) -> None:
    if output.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="the extra ray is not installed")
    Path(LATIN).write_bytes(PICTURE)
    result = read(LATIN, "--output", output)
    assert result.exit_code == 0, result.output
    assert "0 rows added" in read(LATIN, "--output", output).stderr
    if output.endswith(".parquet"):
        (row,) = pytest.importorskip("pyarrow.parquet").read_table(output).to_pylist()
    else:
        (row,) = rows_in(output)
    assert (row["id"], row["text"], row["error"]) == ("caf\\xe9.png", "7", None)


@pytest.mark.parametrize("options", [[], ["--json"], ["--page"], ["--page", "--json"], ["--format", "json"]])
def test_a_name_that_is_not_utf8_is_printed_with_escapes(
    fake: FakeReader, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    class Pages:
        def read(self, page: Any) -> Any:
            from linewise.model import PageReading

            return PageReading(())

    monkeypatch.setattr("linewise.service.cli.read._open_page_reader", lambda reader: Pages())
    Path(LATIN).write_bytes(PICTURE)
    result = read(LATIN, LATIN, "missing" + LATIN, *options)
    assert result.exit_code == 1, result.output
    assert result.stderr == "linewise: missingcaf\\xe9.png: No such file or directory.\n"
    if "--json" in options or "--format" in options:
        assert {json.loads(line)["image"] for line in result.stdout.splitlines()} == {"caf\\xe9.png"}
    elif not options:
        assert result.stdout == "caf\\xe9.png\t7\n" * 2


def test_a_path_of_a_table_may_hold_any_bytes(fake: FakeReader) -> None:
    Path(LATIN).write_bytes(PICTURE)
    write_table("in.parquet", path=[b"caf\xe9.png", b"a\0b.png", b"none.png"])
    assert read("in.parquet", "--output", "out.jsonl").exit_code == 0
    assert [(row["id"], row["text"], row["error"]) for row in rows_in("out.jsonl")] == [
        ("caf\\xe9.png", "7", None),
        ("a\0b.png", None, "The path holds a NUL character."),
        ("none.png", None, "No such file or directory."),
    ]


def test_binary_identifiers_are_text() -> None:
    write_table("in.parquet", id=[b"x", b"caf\xe9", "ü".encode()], image=[PICTURE] * 3)
    assert read("in.parquet", "--output", "out.jsonl").exit_code == 0
    assert [row["id"] for row in rows_in("out.jsonl")] == ["x", "caf\\xe9", "ü"]


def test_strings_of_a_table_that_are_not_utf8_and_categories_are_read() -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra ray is not installed")
    Path(LATIN).write_bytes(PICTURE)
    binary = arrow.array([b"caf\xe9.png"])
    invalid = arrow.Array.from_buffers(arrow.string(), 1, binary.buffers())
    write_table("in.parquet", id=arrow.array(["one"]).dictionary_encode(), path=invalid)
    assert read("in.parquet", "--output", "out.jsonl").exit_code == 0
    assert [(row["id"], row["text"]) for row in rows_in("out.jsonl")] == [("one", "7")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [["a"]], "image": [PICTURE]}, "column id holds list<.*>; it must hold text, bytes or numbers"),
        ({"id": [{"a": 1}], "image": [PICTURE]}, "column id holds struct<.*>; it must hold text, bytes or numbers"),
        ({"id": ["a"], "image": [[1, 2]]}, "column image holds list<.*>; it must hold bytes, paths or a struct"),
        ({"id": ["a"], "image": [7]}, "column image holds int64; it must hold bytes, paths or a struct"),
        ({"id": ["a"], "image": [{"bytes": 7}]}, "column image holds struct<.*>; it must hold bytes, paths or"),
        ({"id": ["a"], "image": [{"pixels": b"7"}]}, "column image holds struct<.*>; it must hold bytes, paths or"),
        ({"path": [7]}, "column path holds int64; it must hold text or bytes"),
        ({"path": [["a.png"]]}, "column path holds list<.*>; it must hold text or bytes"),
    ],
)
def test_a_column_of_another_type_is_one_line_on_standard_error(columns: dict[str, Any], message: str) -> None:
    import re

    write_table("in.parquet", **columns)
    result = read("in.parquet", "--output", "out.jsonl")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert re.search(message, result.stderr)


def test_two_columns_of_one_name_are_one_line_on_standard_error() -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra ray is not installed")
    columns = arrow.Table.from_arrays([arrow.array(["a"])] * 2, names=["path", "path"])
    pytest.importorskip("pyarrow.parquet").write_table(columns, "in.parquet")
    result = read("in.parquet", "--output", "out.jsonl")
    assert (result.exit_code, result.stderr) == (1, "linewise: in.parquet: has 2 columns named path\n")


def test_a_damaged_part_of_a_table_is_one_line_on_standard_error() -> None:
    write_table("in.parquet", id=[str(number) for number in range(500)], image=[os.urandom(50) for _ in range(500)])
    content = bytearray(Path("in.parquet").read_bytes())
    content[4:60] = b"\xff" * 56
    Path("in.parquet").write_bytes(content)
    result = read("in.parquet", "--output", "out.jsonl")
    assert (result.exit_code, result.stderr) == (1, "linewise: in.parquet: cannot be read as Parquet\n")


def test_a_terminal_in_utf8_gets_the_name_with_escapes(tmp_path: Path) -> None:
    program = (
        "import typer; from linewise.service.bulk.sources import displayed;"
        "import sys; typer.echo(displayed(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONUTF8": "1"}
    command: list[str | bytes] = [sys.executable, "-c", program, b"caf\xe9.png"]
    result = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert result.stdout == b"caf\\xe9.png\n"

"""The file of rows: it adds to its own files only, and for one run at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from linewise.service.bulk.writer import BulkError, Row, RowFile, rows_of

ROWS = [Row("a.png", "one", 0.5), Row('b "2" \\ ü.png', None, None, "No such file or directory.")]
LINES = b"".join(json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n" for row in ROWS)

# Opens a file of rows in another process, and holds it until the end of standard input.
HOLDER = """
import sys
from pathlib import Path
from linewise.service.bulk.writer import RowFile
with RowFile(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    "content",
    [
        b'{"precious":1}',
        b'{"precious":1}\n',
        b'{"id": "a", "precious": 1}',
        b'{"id": "a", "precious": 1}\n',
        b'{"id": "a", "note": "torn',
        b'{"id": 7, "text": "a", "confidence": 0.5, "error": null}\n',
        b"[1, 2]\n",
        b"null",
        b"plain text",
        b"\xff\xfe\x00",
        b"\x00" * 64,
        LINES + b'{"precious":1}',
        LINES + b"\n",
    ],
)
def test_a_file_with_other_content_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "doc.jsonl"
    path.write_bytes(content)
    line = content.rstrip(b"\n").count(b"\n") + 1 + content.endswith(b"\n\n")
    with pytest.raises(BulkError, match=rf"doc\.jsonl, line {line}: not a row of linewise read; name another file"):
        RowFile(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("length", range(1, len(LINES.splitlines()[1]) + 1))
def test_a_row_that_a_crash_has_torn_is_dropped_and_a_whole_one_is_kept(tmp_path: Path, length: int) -> None:
    path = tmp_path / "doc.jsonl"
    whole, torn = LINES.splitlines(keepends=True)
    path.write_bytes(whole + torn[:length])
    with RowFile(path) as file:
        assert file.done == ({row.id for row in ROWS} if length == len(torn) - 1 else {"a.png"})
        if ROWS[1].id not in file.done:
            file.add(ROWS[1])
    assert path.read_bytes() == LINES
    assert list(rows_of(path)) == ROWS


@pytest.mark.parametrize("name", ["doc.jsonl", "doc.parquet.jsonl"])
def test_a_second_run_that_adds_to_the_same_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(LINES)
    program = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(BulkError, match=r"doc.*\.jsonl: another run is adding rows; wait until it ends"):
            RowFile(path)
        other.communicate()
    with RowFile(path) as file:
        assert len(file.done) == 2


def test_a_file_that_another_run_removes_while_it_is_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "doc.parquet.jsonl"
    removed: list[Path] = []

    def flock(file: object, operation: int) -> None:
        if not removed:
            path.unlink()
            removed.append(path)

    monkeypatch.setattr("linewise.service.bulk.writer.fcntl.flock", flock)
    with RowFile(path) as file:
        file.add(ROWS[0])
    assert list(rows_of(path)) == ROWS[:1]


def test_a_table_is_locked_until_it_has_the_rows_of_its_journal(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra ray is not installed")
    from linewise.service.bulk.parquet import TableFile

    refused = []

    class Checked(TableFile):
        def _merge(self) -> None:
            with pytest.raises(BulkError, match="another run is adding rows"):
                TableFile(self.table)
            refused.append(True)
            super()._merge()

    with Checked(tmp_path / "doc.parquet") as file:
        file.add(ROWS[0])
    assert refused and [path.name for path in tmp_path.iterdir()] == ["doc.parquet"]

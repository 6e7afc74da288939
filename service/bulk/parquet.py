"""Inputs and outputs of bulk reading: files, and Parquet tables, which need pyarrow from the extra ``ray``."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linewise.service.bulk.writer import BATCH_SIZE_IMAGES, BulkError, Entry, Row, RowFile, rows_of

if TYPE_CHECKING:
    import pyarrow

# Identifier; bytes of the file or the struct of Hugging Face datasets; path of the file.
INPUT_COLUMNS = ("id", "image", "path")
ROW_GROUP_SIZE = 10_000


def is_table(source: str | Path) -> bool:
    """Whether the name is that of a Parquet table."""
    return str(source).endswith(".parquet")


def read_entries(sources: Iterable[str], done: Collection[str]) -> Iterator[Entry]:
    """Yield the entries of files and tables in order, without those in ``done``.

    Raises:
        BulkError: a table cannot be used.
    """
    for source in sources:
        candidates = _entries_in(Path(source)) if is_table(source) else (Entry(source, source),)
        yield from (entry for entry in candidates if entry.id not in done)


def count_entries(sources: Iterable[str], done: Collection[str]) -> int:
    """Count the remaining images; tables count with all their rows.

    Raises:
        BulkError: a table cannot be used.
    """
    total = 0
    for source in sources:
        if is_table(source):
            columns_of(Path(source))
            with _open(Path(source)) as table:
                total += table.metadata.num_rows
        else:
            total += source not in done
    return total


def open_rows(path: Path) -> RowFile:
    """Open a Parquet table or a file of JSON lines to add rows.

    Raises:
        BulkError: the file cannot be used.
    """
    return TableFile(path) if is_table(path) else RowFile(path)


def columns_of(path: Path) -> dict[str, str]:
    """Return the input columns of a table with their types.

    Raises:
        BulkError: the table cannot be read or lacks columns.
    """
    with _open(path) as table:
        schema = table.schema_arrow
        columns = {name: str(schema.field(name).type) for name in INPUT_COLUMNS if name in schema.names}
    if not {"image", "path"} & columns.keys() or not {"id", "path"} & columns.keys():
        raise BulkError(f"{path}: needs the columns id and image, or path")
    return columns


def entries_of(table: pyarrow.Table | pyarrow.RecordBatch) -> list[Entry]:
    """Convert rows of a table to entries.

    Raises:
        BulkError: a row has neither id nor path.
    """
    absent = [None] * table.num_rows
    ids, images, paths = (
        table.column(name).to_pylist() if name in table.schema.names else absent for name in INPUT_COLUMNS
    )
    entries = []
    for row_id, image, path in zip(ids, images, paths, strict=True):
        identifier = path if row_id is None else row_id
        if identifier is None:
            raise BulkError("a row of the table has neither id nor path")
        content = image.get("bytes") or image.get("path") if isinstance(image, dict) else image
        entries.append(Entry(str(identifier), content or path))
    return entries


def table_of(rows: list[Row]) -> pyarrow.Table:
    """Convert rows to a table."""
    return _pyarrow().Table.from_pylist([asdict(row) for row in rows], schema=_schema())


class TableFile(RowFile):
    """Parquet file of rows with a journal beside it.

    Rows are appended to the journal, a file of JSON lines, which ``finish`` merges into the table. A crash leaves the
    journal, with which the next run resumes, and the previous table intact.

    Raises:
        BulkError: pyarrow is missing, or the table or the journal cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.table = path
        _pyarrow()
        if path.exists():
            with _open(path) as table:
                if not table.schema_arrow.equals(_schema()):
                    raise BulkError(f"{path}: not a table of linewise read; name another file")
        super().__init__(path.with_name(path.name + ".jsonl"))
        self._ids_in_table = {row.id for row in self._rows_in_table()}
        self.done |= self._ids_in_table

    def finish(self) -> None:
        """Append the rows of the journal to the table, atomically, and delete the journal."""
        super().finish()
        self._merge()

    def _merge(self) -> None:
        new = (row for row in rows_of(self.path) if row.id not in self._ids_in_table)
        if (first := next(new, None)) is not None or not self.table.exists():
            draft = self.table.with_name(self.table.name + ".part")
            with _pyarrow().parquet.ParquetWriter(draft, _schema()) as writer:
                for source in (self._rows_in_table(), iter([first] if first else []), new):
                    while row_group := list(islice(source, ROW_GROUP_SIZE)):
                        writer.write_table(table_of(row_group))
            draft.replace(self.table)
        os.remove(self.path)  # after a crash just before this, the next run finds the journal's rows in the table

    def _rows_in_table(self) -> Iterator[Row]:
        if self.table.exists():
            with _open(self.table) as table:
                for batch in table.iter_batches(ROW_GROUP_SIZE):
                    yield from (Row(**row) for row in batch.to_pylist())


def _entries_in(path: Path) -> Iterator[Entry]:
    columns = columns_of(path)
    with _open(path) as table:
        for batch in table.iter_batches(BATCH_SIZE_IMAGES, columns=list(columns)):
            yield from entries_of(batch)


def _open(path: Path) -> Any:
    arrow = _pyarrow()
    try:
        return arrow.parquet.ParquetFile(path)
    except (OSError, arrow.ArrowInvalid):
        raise BulkError(f"{path}: cannot be read as Parquet") from None


def _pyarrow() -> Any:
    """Import pyarrow, which is slow to import.

    Raises:
        BulkError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BulkError("not installed: pyarrow; Parquet needs pip install 'linewise[ray]'") from None
    return pyarrow


def _schema() -> pyarrow.Schema:
    arrow = _pyarrow()
    text, number = arrow.string(), arrow.float64()
    return arrow.schema([("id", text), ("text", text), ("confidence", number), ("error", text)])

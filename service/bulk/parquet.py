"""Inputs and outputs of bulk reading: files, and Parquet tables, which need pyarrow from the extra ``ray``."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linewise.service.bulk.sources import displayed
from linewise.service.bulk.writer import BATCH_SIZE_IMAGES, BulkError, Entry, Row, RowFile, rows_of

if TYPE_CHECKING:
    import pyarrow

# Identifier; bytes of the file or the struct of Hugging Face datasets; path of the file.
INPUT_COLUMNS = ("id", "image", "path")
COLUMN_CONTENTS = {
    "id": "text, bytes or numbers",
    "image": "bytes, paths or a struct with the fields bytes and path",
    "path": "text or bytes",
}
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
        candidates = _entries_in(Path(source)) if is_table(source) else (Entry(displayed(source), source),)
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
            total += displayed(source) not in done
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
        BulkError: the table cannot be read, lacks columns, or has columns of other types.
    """
    with _open(path) as table:
        schema = table.schema_arrow
        for name in INPUT_COLUMNS:
            if (count := schema.names.count(name)) > 1:
                raise BulkError(f"{path}: has {count} columns named {name}")
        types = {name: schema.field(name).type for name in INPUT_COLUMNS if name in schema.names}
    for name, kind in types.items():
        if not _is_usable(name, kind):
            raise BulkError(f"{path}: column {name} holds {kind}; it must hold {COLUMN_CONTENTS[name]}")
    columns = {name: str(kind) for name, kind in types.items()}
    if not {"image", "path"} & columns.keys() or not {"id", "path"} & columns.keys():
        raise BulkError(f"{path}: needs the columns id and image, or path")
    return columns


def entries_of(table: pyarrow.Table | pyarrow.RecordBatch) -> list[Entry]:
    """Convert rows of a table to entries.

    Raises:
        BulkError: a row has neither id nor path.
    """
    ids, images, paths = (_values(table, name) for name in INPUT_COLUMNS)
    entries = []
    for row_id, image, path in zip(ids, images, paths, strict=True):
        identifier = path if row_id is None else row_id
        if identifier is None:
            raise BulkError("a row of the table has neither id nor path")
        text = identifier.decode("utf-8", "backslashreplace") if isinstance(identifier, bytes) else str(identifier)
        content = image or (None if path is None else os.fsdecode(path))
        entries.append(Entry(text, content))
    return entries


def _values(table: pyarrow.Table | pyarrow.RecordBatch, name: str) -> list[Any]:
    """Return the values of a column, all None if the table lacks it.

    Text is returned as bytes, which need not be UTF-8, but paths in the column ``image`` as text. A struct becomes its
    bytes or, without bytes, its path.
    """
    if name not in table.schema.names:
        return [None] * table.num_rows
    column = table.column(name)
    kind = column.type
    if not _pyarrow().types.is_struct(kind):
        values: list[Any] = _as_bytes(column).to_pylist()
        if name != "image":
            return values
        is_path = _is_text(kind)
        return [os.fsdecode(value) if is_path and value is not None else value for value in values]
    from pyarrow import compute

    contents, paths = (
        _as_bytes(compute.struct_field(column, field)).to_pylist()
        if kind.get_field_index(field) >= 0
        else [None] * len(column)
        for field in ("bytes", "path")
    )
    return [data or (os.fsdecode(path) if path else None) for data, path in zip(contents, paths, strict=True)]


def _as_bytes(column: Any) -> Any:
    """Cast text to bytes, since the text of a damaged or foreign table need not be UTF-8."""
    arrow = _pyarrow()
    if arrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(arrow.large_binary()) if _is_text(column.type) else column


def _is_text(kind: Any) -> bool:
    types = _pyarrow().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_usable(name: str, kind: Any) -> bool:
    """Whether an input column may have a type."""
    types = _pyarrow().types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if name == "id":
        return not types.is_nested(kind)
    if name == "image" and types.is_struct(kind):
        fields = [kind.field(field).type for field in ("bytes", "path") if kind.get_field_index(field) >= 0]
        return bool(fields) and all(_is_usable("path", field) for field in fields)
    binary = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(binary or types.is_fixed_size_binary(kind) or types.is_null(kind) or _is_text(kind))


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
        batches = table.iter_batches(BATCH_SIZE_IMAGES, columns=list(columns))
        while True:
            with _arrow_errors_as_bulk_errors(path):
                batch = next(batches, None)
            if batch is None:
                return
            yield from entries_of(batch)


def _open(path: Path) -> Any:
    with _arrow_errors_as_bulk_errors(path):
        return _pyarrow().parquet.ParquetFile(path)


@contextmanager
def _arrow_errors_as_bulk_errors(path: Path) -> Iterator[None]:
    arrow = _pyarrow()
    try:
        yield
    except (OSError, arrow.ArrowException):
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

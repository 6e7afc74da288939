"""What bulk reading takes and gives: files, or tables in Parquet, for which the extra ``ray`` brings pyarrow."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linewise.service.bulk.writer import TOGETHER, BulkError, Entry, Row, RowFile, rows_in

if TYPE_CHECKING:
    import pyarrow

INPUT = ("id", "image", "path")  # the columns that are read: a name, bytes or Hugging Face's struct, a file's path
WRITTEN = 10_000  # rows in a row group of the output


def is_table(source: str | Path) -> bool:
    """Whether this is a table rather than an image or JSON lines."""
    return str(source).endswith(".parquet")


def entries(sources: Iterable[str], done: Collection[str]) -> Iterator[Entry]:
    """The images of files and tables, in order, but for those that are done. Raises ``BulkError``."""
    for source in sources:
        found = _entries_in(Path(source)) if is_table(source) else (Entry(source, source),)
        yield from (entry for entry in found if entry.id not in done)


def count(sources: Iterable[str], done: Collection[str]) -> int:
    """How many images are left, tables counted with all their rows. Raises ``BulkError``."""
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
    """A file that rows can be added to: a table, or JSON lines. Raises ``BulkError``."""
    return TableFile(path) if is_table(path) else RowFile(path)


def columns_of(path: Path) -> dict[str, str]:
    """The columns that are read of a table, with their types. Raises ``BulkError`` where they do not suffice."""
    with _open(path) as table:
        schema = table.schema_arrow
        found = {name: str(schema.field(name).type) for name in INPUT if name in schema.names}
    if not {"image", "path"} & found.keys() or not {"id", "path"} & found.keys():
        raise BulkError(f"{path}: needs the columns id and image, or path")
    return found


def entries_of(table: pyarrow.Table | pyarrow.RecordBatch) -> list[Entry]:
    """The images of a part of a table. Raises ``BulkError`` for a row without a name."""
    nothing = [None] * table.num_rows
    ids, images, paths = (table.column(name).to_pylist() if name in table.schema.names else nothing for name in INPUT)
    found = []
    for name, image, path in zip(ids, images, paths, strict=True):
        if isinstance(image, dict):
            image = image.get("bytes") or image.get("path")
        known = path if name is None else name
        if known is None:
            raise BulkError("a row of the table has neither id nor path")
        found.append(Entry(str(known), image or path))
    return found


def table_of(rows: list[Row]) -> pyarrow.Table:
    """Rows as a table."""
    return _pyarrow().Table.from_pylist([asdict(row) for row in rows], schema=_schema())


class TableFile(RowFile):
    """A Parquet file of rows. A journal beside it takes them, and becomes the file when all are there.

    What a crash leaves is the journal, with which the next run goes on; a file that was there stays whole meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.table = path
        _pyarrow()
        if path.exists():
            with _open(path) as table:
                if not table.schema_arrow.equals(_schema()):
                    raise BulkError(f"{path}: not a table of this command; name another file")
        super().__init__(path.with_name(path.name + ".jsonl"))
        self._written = {row.id for row in self._rows_written()}
        self.done |= self._written

    def finish(self) -> None:
        """Put the rows of the journal behind those of the file, in one move, and drop the journal."""
        super().finish()
        new = (row for row in rows_in(self.path) if row.id not in self._written)
        if (first := next(new, None)) is not None or not self.table.exists():
            draft = self.table.with_name(self.table.name + ".part")
            with _pyarrow().parquet.ParquetWriter(draft, _schema()) as writer:
                for source in (self._rows_written(), iter([first] if first else []), new):
                    while some := list(islice(source, WRITTEN)):
                        writer.write_table(table_of(some))
            draft.replace(self.table)
        os.remove(self.path)  # should a crash come before this, the journal's rows are known to be in the file

    def _rows_written(self) -> Iterator[Row]:
        if self.table.exists():
            with _open(self.table) as table:
                for batch in table.iter_batches(WRITTEN):
                    yield from (Row(**row) for row in batch.to_pylist())


def _entries_in(path: Path) -> Iterator[Entry]:
    columns = columns_of(path)
    with _open(path) as table:
        for batch in table.iter_batches(TOGETHER, columns=list(columns)):
            yield from entries_of(batch)


def _open(path: Path) -> Any:
    arrow = _pyarrow()
    try:
        return arrow.parquet.ParquetFile(path)
    except (OSError, arrow.ArrowInvalid):
        raise BulkError(f"{path}: cannot be read as Parquet") from None


def _pyarrow() -> Any:
    """The library, which takes its time to import; ``BulkError`` says how to get it where it is missing."""
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

"""Recognition of many images on all cores into an append-only file of rows that an interrupted run resumes."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from linewise.service.bulk.sources import Failure, displayed, open_source
from linewise.service.inference.results import is_device_lost

if TYPE_CHECKING:
    from linewise.model import Decoding
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.inference.loading import LineReader

BATCH_SIZE_IMAGES = 64  # decoded and read at once: full network batches of most widths in a few megabytes


@dataclass(frozen=True)
class Row:
    """Result of one image: text and confidence (0 to 1), or an error."""

    id: str
    text: str | None
    confidence: float | None
    error: str | None = None


@dataclass(frozen=True)
class Entry:
    """An image to read: its identifier, and the bytes or path of its file; None if a table has neither."""

    id: str
    content: bytes | str | None


class BulkError(Exception):
    """An input or the output cannot be used; the message is one line."""


def read_rows(
    reader: LineReader, images: Iterable[str | Entry], limits: ImageLimits, decoding: Decoding | None, threads: int
) -> Iterator[Row]:
    """Read images with ``threads`` threads; yields one row per image in order.

    Memory is bounded: at most two batches per thread are in flight.

    Raises:
        BulkError: the model is lost; the images of the rows so far are read.
    """
    entries = (Entry(displayed(image), image) if isinstance(image, str) else image for image in images)
    in_flight: deque[Future[list[Row]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="bulk") as pool:
        try:
            while True:
                while len(in_flight) < 2 * threads and (batch := list(islice(entries, BATCH_SIZE_IMAGES))):
                    in_flight.append(pool.submit(_read_batch, reader, batch, limits, decoding))
                if not in_flight:
                    return
                yield from in_flight.popleft().result()
        finally:
            for future in in_flight:
                future.cancel()


def _read_batch(reader: LineReader, batch: list[Entry], limits: ImageLimits, decoding: Decoding | None) -> list[Row]:
    """Read a batch at once; after an error, read its images one by one to find the faulty one."""
    images = [_open(entry, limits) for entry in batch]
    pixels = [image.pixels for image in images if not isinstance(image, Failure)]
    try:
        readings = iter(reader.read(pixels, [decoding] * len(pixels)) if pixels else [])
    except Exception as error:
        if is_device_lost(error):
            raise _model_lost(error) from error
        if len(batch) == 1:
            _check_reader(reader)
            return [Row(batch[0].id, None, None, f"The image could not be read: {type(error).__name__}.")]
        return [row for entry in batch for row in _read_batch(reader, [entry], limits, decoding)]
    rows = []
    for entry, image in zip(batch, images, strict=True):
        if isinstance(image, Failure):
            rows.append(Row(entry.id, None, None, image.reason))
        else:
            reading = next(readings)
            rows.append(Row(entry.id, reading.text, round(reading.confidence, 4)))
    return rows


def _check_reader(reader: LineReader) -> None:
    """Read a blank image: a reader that fails for it fails for every image. Raises ``BulkError``."""
    try:
        reader.read([np.full((32, 32), 255, np.uint8)], [None])
    except Exception as error:
        raise _model_lost(error) from error


def _model_lost(error: Exception) -> BulkError:
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return BulkError(f"the model is lost: {reason}; start the same command again to go on")


def _open(entry: Entry, limits: ImageLimits) -> UprightImage | Failure:
    if entry.content is None:
        return Failure(entry.id, "The row holds no image.")
    return open_source(entry.content, limits)


def rows_of(path: Path) -> Iterator[Row]:
    """Parse the rows of a file that ``RowFile`` wrote."""
    with path.open("rb") as file:
        yield from map(_parse_row, file)


def _parse_row(line: bytes) -> Row:
    """Parse a line of a file of rows. Raises ``ValueError`` unless it has exactly the fields of a row."""
    values = json.loads(line)
    if not isinstance(values, dict) or {name: type(value) for name, value in values.items()} not in _ROW_TYPES:
        raise ValueError("not a row")
    return Row(**values)


_TEXT_ROW = {"id": str, "text": str, "confidence": float, "error": type(None)}
_ERROR_ROW = {"id": str, "text": type(None), "confidence": type(None), "error": str}
_ROW_TYPES = (_TEXT_ROW, _ERROR_ROW)


def _is_torn_row(line: bytes) -> bool:
    """Whether a line is the beginning of a row, as a crash leaves it."""
    start = b'{"id": "'
    if line.endswith(b"\n"):
        return False
    if len(line) < len(start):
        return start.startswith(line)
    match = _AFTER_ID.fullmatch(line)
    if match is None:
        return False
    rest, text = match["rest"] or b"", b', "text": '
    return rest.startswith(text) or text.startswith(rest)


# A JSON object whose first member is a string named id, of which the line may end anywhere.
_AFTER_ID = re.compile(rb'\{"id": "(?:[^"\\]|\\.)*(?:\\|"(?P<rest>.*))?', re.DOTALL)


class RowFile:
    """Append-only file with one row per line as a JSON object, locked against other runs.

    Opening it collects the identifiers of its rows in ``done`` and drops an incomplete last row, which a crash leaves.
    A file with any other content is left as it is.

    Raises:
        BulkError: the file has another suffix, cannot be opened, is in use by another run, or holds other lines than
            rows.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".jsonl", ".ndjson"):
            raise BulkError(f"{path}: name a file that ends in .jsonl (JSON lines) or .parquet")
        self.path = path
        self.done: set[str] = set()
        try:
            self._file = _open_locked(path)
        except BlockingIOError:
            raise BulkError(f"{path}: another run is adding rows; wait until it ends, or name another file") from None
        except OSError as error:
            raise BulkError(f"{path}: {error.strerror or 'cannot be written'}") from None
        try:
            self._recover()
        except BulkError:
            self._file.close()
            raise

    def _recover(self) -> None:
        """Collect the identifiers of all rows, and make the file end behind the last complete one."""
        self._file.seek(0)
        valid_length, terminated = 0, True
        for number, line in enumerate(self._file, start=1):
            try:
                self.done.add(_parse_row(line).id)
            except ValueError:
                if _is_torn_row(line):
                    break
                raise BulkError(f"{self.path}, line {number}: not a row of linewise read; name another file") from None
            valid_length += len(line)
            terminated = line.endswith(b"\n")
        self._file.truncate(valid_length)
        self._file.seek(0, os.SEEK_END)
        if not terminated:
            self._file.write(b"\n")

    def add(self, row: Row) -> None:
        """Append a row."""
        self._file.write((json.dumps(asdict(row), ensure_ascii=False) + "\n").encode())
        self.done.add(row.id)

    def finish(self) -> None:
        """Complete the file: every image has its row."""
        self._file.flush()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._file.close()


def _open_locked(path: Path) -> BinaryIO:
    """Open a file to read and append, with a lock that lasts until it is closed.

    Raises:
        BlockingIOError: another process or object holds the lock.
        OSError: the file cannot be opened.
    """
    while True:
        file = path.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()  # another run has merged and removed the file in the meantime
        except BlockingIOError:
            file.close()
            raise
        except OSError:  # a file system without locks
            return file

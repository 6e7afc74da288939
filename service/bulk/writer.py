"""Many images to a file of rows: in order, on every core, and gone on with where a run was cut."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from linewise.service.bulk.sources import Failure, open_source

if TYPE_CHECKING:
    from linewise.model import Decoding
    from linewise.service.documents.image import ImageLimits, UprightImage
    from linewise.service.inference.engine import LineReader

TOGETHER = 64  # images decoded and read at once: full passes of most widths, some megabytes


@dataclass(frozen=True)
class Row:
    """What came of one image: a text with its confidence, or an error."""

    id: str
    text: str | None
    confidence: float | None
    error: str | None = None


@dataclass(frozen=True)
class Entry:
    """One image to read: its name, and the bytes of its file, or the file's path, or None where a table has neither."""

    id: str
    content: bytes | str | None


class BulkError(Exception):
    """An input or the output cannot be used; the message is one line that says why."""


def rows(
    reader: LineReader, images: Iterable[str | Entry], limits: ImageLimits, decoding: Decoding | None, threads: int
) -> Iterator[Row]:
    """One row for each image, in order, however many there are: no more than a few lists are held at a time."""
    left = (Entry(image, image) if isinstance(image, str) else image for image in images)
    under_way: deque[Future[list[Row]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="bulk") as pool:
        try:
            while True:
                while len(under_way) < 2 * threads and (some := list(islice(left, TOGETHER))):
                    under_way.append(pool.submit(_read, reader, some, limits, decoding))
                if not under_way:
                    return
                yield from under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _read(reader: LineReader, images: list[Entry], limits: ImageLimits, decoding: Decoding | None) -> list[Row]:
    opened = [_open(image, limits) for image in images]
    pixels = [image.pixels for image in opened if not isinstance(image, Failure)]
    try:
        readings = iter(reader.read(pixels, [decoding] * len(pixels)) if pixels else [])
    except Exception as error:
        if len(images) == 1:  # found: this image is to blame, and no other is to suffer for it
            return [Row(images[0].id, None, None, f"The image could not be read: {type(error).__name__}.")]
        return [row for image in images for row in _read(reader, [image], limits, decoding)]
    found = []
    for entry, image in zip(images, opened, strict=True):
        if isinstance(image, Failure):
            found.append(Row(entry.id, None, None, image.reason))
        else:
            reading = next(readings)
            found.append(Row(entry.id, reading.text, round(reading.confidence, 4)))
    return found


def _open(image: Entry, limits: ImageLimits) -> UprightImage | Failure:
    if image.content is None:
        return Failure(image.id, "The row holds no image.")
    return open_source(image.content, limits)


def rows_in(path: Path) -> Iterator[Row]:
    """The rows of a file that ``RowFile`` wrote."""
    with path.open(encoding="utf-8") as file:
        yield from (Row(**json.loads(line)) for line in file)


class RowFile:
    """A file of one JSON object a line that is only ever added to.

    Opening it finds out what is there already, in ``done``, and drops a last line that a crash cut short.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".jsonl", ".ndjson"):
            raise BulkError(f"{path}: name a file that ends in .jsonl, for JSON lines, or in .parquet")
        self.path = path
        self.done: set[str] = set()
        try:
            self._file = path.open("a+b")
        except OSError as error:
            raise BulkError(f"{path}: {error.strerror or 'cannot be written'}") from None
        try:
            self._recover()
        except BulkError:
            self._file.close()
            raise

    def _recover(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                self.done.add(json.loads(line)["id"])
            except (ValueError, KeyError, TypeError):
                raise BulkError(f"{self.path}, line {number}: not a row of this command; name another file") from None
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def add(self, row: Row) -> None:
        """Write a row."""
        self._file.write((json.dumps(asdict(row), ensure_ascii=False) + "\n").encode())
        self.done.add(row.id)

    def finish(self) -> None:
        """Called when there is a row for every image."""
        self._file.close()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        self._file.close()

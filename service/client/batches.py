"""Images as bytes, grouped into batches for one request each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linewise.service.client.image_size import count_pixels
from linewise.service.client.results import Result, ServiceFailure, parse_items

ImageSource = bytes | str | os.PathLike[str]  # bytes of an image file, or its path

BATCH_IMAGES = 32
BATCH_BYTES = 16 * 2**20
BATCH_PIXELS = 100_000_000  # half of what a service accepts by default


@dataclass(frozen=True)
class Batch:
    """The images of one request, in order; an unreadable file has its failure in its place."""

    contents: tuple[bytes | ServiceFailure, ...]

    @property
    def images(self) -> list[bytes]:
        """The images to send."""
        return [content for content in self.contents if isinstance(content, bytes)]

    @property
    def failures(self) -> list[Result | ServiceFailure]:
        """The failures of the unreadable files."""
        return [content for content in self.contents if isinstance(content, ServiceFailure)]

    def outcomes(self, body: Mapping[str, Any]) -> list[Result | ServiceFailure]:
        """Return one outcome per image, from the body of the response and the unreadable files.

        Raises ``ServiceFailure``.
        """
        remaining = iter(parse_items(body, len(self.images)))
        return [content if isinstance(content, ServiceFailure) else next(remaining) for content in self.contents]

    def failed(self, failure: ServiceFailure) -> list[Result | ServiceFailure]:
        """Return one outcome per image after the request failed."""
        return [content if isinstance(content, ServiceFailure) else failure for content in self.contents]

    def halves_after(self, failure: ServiceFailure) -> tuple[Batch, ...]:
        """Return two smaller batches if the service refused this one for its size, else none."""
        refused_for_size = failure.status == 413 or failure.code == "image_too_large"
        if not refused_for_size or len(self.images) < 2:
            return ()
        middle = len(self.contents) // 2
        return Batch(self.contents[:middle]), Batch(self.contents[middle:])


def read_image(source: ImageSource) -> bytes:
    """Return the bytes of an image file. Raises ``ServiceFailure``."""
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise ServiceFailure(0, "unreadable_file", f"{source}: {error.strerror}") from error
    except ValueError as error:  # a NUL, or characters that the file system cannot encode
        raise ServiceFailure(0, "unreadable_file", f"{source!r}: no file can have this path") from error


def batched(sources: Iterable[ImageSource]) -> Iterator[Batch]:
    """Group images into batches of at most ``BATCH_IMAGES``, ``BATCH_BYTES`` and ``BATCH_PIXELS``.

    Files are read as needed. An image above a limit is a batch of its own.
    """
    contents: list[bytes | ServiceFailure] = []
    total_bytes = total_pixels = 0
    for source in sources:
        content: bytes | ServiceFailure
        try:
            content = read_image(source)
        except ServiceFailure as failure:
            content = failure
        size, pixels = (len(content), count_pixels(content)) if isinstance(content, bytes) else (0, 0)
        is_full = len(contents) == BATCH_IMAGES or total_bytes + size > BATCH_BYTES
        if contents and (is_full or total_pixels + pixels > BATCH_PIXELS):
            yield Batch(tuple(contents))
            contents, total_bytes, total_pixels = [], 0, 0
        contents.append(content)
        total_bytes += size
        total_pixels += pixels
    if contents:
        yield Batch(tuple(contents))

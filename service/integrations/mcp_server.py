"""MCP server: tools that read images and PDF files below named folders, over standard input and output."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

import linewise
from linewise.service.documents.layout import Page, bounding_box
from linewise.service.documents.multipage import is_pdf, page_count
from linewise.service.errors import ServiceError
from linewise.service.integrations.reading import DocumentReader, ReadingError, ReadOptions

MAX_FILE_BYTES = 256 * 2**20
MAX_PAGES = 50  # of one call

INSTRUCTIONS = "Reads printed text in image files (PNG, JPEG, WebP, BMP, TIFF) and PDF files below these folders: {}."
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

PathField = Annotated[str, Field(description="Path of the file, absolute or below one of the folders.")]
ModeField = Annotated[
    Literal["auto", "page", "line"],
    Field(description="'line' for an image of a single line of text, 'page' for anything else, 'auto' to detect it."),
]
PlacesField = Annotated[
    bool,
    Field(
        description="Answer with JSON instead of text: each line with its confidence (0 to 1) and its box as left, top,"
        " right, bottom in pixels."
    ),
]
PagesField = Annotated[
    list[int] | None, Field(description="Page numbers from 1, in the order wanted. Leave out to read all pages.")
]


class Folders:
    """The folders whose files may be read."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._given = [folder.absolute() for folder in folders]
        self._resolved = [folder.resolve(strict=True) for folder in folders]

    def __str__(self) -> str:
        return ", ".join(map(str, self._given))

    def read(self, path: str) -> bytes:
        """Read a file below the folders. Raises ``ToolError``.

        Links are followed before the check. The file that is open is checked again, since a link may change between.
        """
        try:
            target = self._find(path)
            descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # a pipe would block
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise ToolError(f"{path}: not a file")
            with open(descriptor, "rb") as file:
                link = Path(f"/proc/self/fd/{descriptor}")  # Linux
                self._check(link.resolve() if link.exists() else target, path)
                if os.fstat(descriptor).st_size > MAX_FILE_BYTES:
                    raise ToolError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
                return file.read()
        except OSError as error:
            raise ToolError(f"{path}: {error.strerror or 'cannot be opened'}") from None
        except ValueError:  # a NUL, or characters that the file system cannot encode
            raise ToolError(f"{path!r}: no file can have this path") from None

    def _find(self, path: str) -> Path:
        """Resolve a path; a relative one belongs to the first folder that has it."""
        targets = [(folder / path).resolve() for folder in self._resolved]
        inside = [target for target in targets if any(map(target.is_relative_to, self._resolved))]
        if not inside:
            self._check(targets[0], path)
        existing = [target for target in inside if target.exists()]
        if not existing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return existing[0]

    def _check(self, target: Path, path: str) -> None:
        if not any(map(target.is_relative_to, self._resolved)):
            raise ToolError(f"{path}: outside the folders that may be read, which are {self}")


def build_server(folders: Sequence[Path], reader: DocumentReader) -> MCPServer[Any]:
    """Build the server with its tools ``read_image`` and ``read_pdf``. Raises ``OSError`` for a missing folder."""
    allowed = Folders(folders)
    server: MCPServer[Any] = MCPServer(
        "linewise",
        version=linewise.__version__,
        instructions=INSTRUCTIONS.format(allowed),
        log_level="WARNING",
    )

    @server.tool(annotations=READ_ONLY, structured_output=False)
    async def read_image(path: PathField, mode: ModeField = "auto", places: PlacesField = False) -> str:
        """Read the printed text in an image file, in reading order."""
        data = await anyio.to_thread.run_sync(allowed.read, path)
        if is_pdf(data):
            raise ToolError(f"{path}: a PDF; use read_pdf")
        pages = await _read(reader, path, data, ReadOptions(mode=mode))
        return _answer(pages, range(1, len(pages) + 1), places)

    @server.tool(annotations=READ_ONLY, structured_output=False)
    async def read_pdf(path: PathField, context: Context, pages: PagesField = None, places: PlacesField = False) -> str:
        """Read the printed text in the pages of a PDF file as they look, scanned pages too."""
        data = await anyio.to_thread.run_sync(allowed.read, path)
        if not is_pdf(data):
            raise ToolError(f"{path}: not a PDF; use read_image")
        numbers = await anyio.to_thread.run_sync(_page_numbers, path, data, pages)
        read: list[Page] = []
        for number in numbers:
            read += await _read(reader, path, data, ReadOptions(mode="page", pages=(number - 1,)))
            await context.report_progress(len(read), len(numbers))
        return _answer(read, numbers, places)

    return server


def _page_numbers(path: str, data: bytes, wanted: Sequence[int] | None) -> Sequence[int]:
    """Numbers of the pages to read, from 1. Raises ``ToolError``."""
    try:
        count = page_count(data, sys.maxsize)
    except ServiceError as error:
        raise ToolError(f"{path}: {error.detail}") from None
    numbers = range(1, count + 1) if wanted is None else wanted
    missing = [number for number in numbers if not 1 <= number <= count]
    if missing:
        raise ToolError(f"{path}: there is no page {missing[0]}; its pages are numbered 1 to {count}")
    if not 1 <= len(numbers) <= MAX_PAGES:
        raise ToolError(f"{path}: {len(numbers)} pages asked for; name 1 to {MAX_PAGES} of its {count} with `pages`")
    return numbers


async def _read(reader: DocumentReader, path: str, data: bytes, options: ReadOptions) -> tuple[Page, ...]:
    try:
        document = await anyio.to_thread.run_sync(reader.read, data, options)
    except ReadingError as error:
        raise ToolError(f"{path}: {error}") from None
    return document.pages


def _answer(pages: Sequence[Page], numbers: Sequence[int], places: bool) -> str:
    """Text of the pages, with their numbers if there are several; or JSON with the places of the lines.

    A tab separates the cells of a row.
    """
    if places:
        return json.dumps(
            {"pages": [_places(page, number) for page, number in zip(pages, numbers, strict=True)]},
            ensure_ascii=False,
        )
    texts = [page.text or "(no text found)" for page in pages]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"[page {number}]\n{text}" for number, text in zip(numbers, texts, strict=True))


def _places(page: Page, number: int) -> dict[str, Any]:
    lines = [
        {"text": line.text, "confidence": line.confidence, "box": bounding_box(line.polygon, page.width, page.height)}
        for line in page.lines
        if line.text
    ]
    return {"page": number, "width": page.width, "height": page.height, "lines": lines}

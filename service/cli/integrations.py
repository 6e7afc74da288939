"""The commands ``linewise mcp`` and ``linewise tesseract``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linewise.service.cli.common import fail, require_packages


def mcp(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders whose files may be read.")],
) -> None:
    """Serve the tools read_image and read_pdf to an MCP host over standard input and output.

    LINEWISE_URL makes them use a running service.
    """
    require_packages(["mcp", "pypdfium2"], "mcp", "the command")
    from linewise.service.integrations import open_document_reader
    from linewise.service.integrations.mcp_server import build_server
    from linewise.service.integrations.reading import ReadingError

    try:
        server = build_server(folders, open_document_reader())
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 2)
    except ReadingError as error:
        fail(str(error), 2)
    server.run()


def tesseract(context: typer.Context) -> None:
    """Take the arguments of the tesseract command and answer like it.

    LINEWISE_URL makes it use a running service.
    """
    from linewise.service.integrations.tesseract import main

    raise typer.Exit(main(context.args))

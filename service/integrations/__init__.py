"""Interfaces of other programs: MCP hosts, callers of the tesseract command, OCRmyPDF.

Recognition runs in this process, or in a service: ``LINEWISE_URL`` is its address, ``LINEWISE_API_KEY`` the key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linewise.service.integrations.reading import DocumentReader


def open_document_reader() -> DocumentReader:
    """Return the reader that the environment asks for.

    Raises:
        ReadingError: the address or key of the service, or a setting, is unusable.
    """
    url = os.environ.get("LINEWISE_URL")
    if url:
        from linewise.service.integrations.remote import RemoteReader

        return RemoteReader(url, os.environ.get("LINEWISE_API_KEY"))
    from linewise.service.integrations.local import LocalReader

    return LocalReader()

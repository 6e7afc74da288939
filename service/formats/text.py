"""Plain text output."""

from __future__ import annotations

from linewise.service.documents.layout import Document


def write_text(document: Document) -> str:
    """Write each line of text, in reading order, with a newline after it; an empty string without text."""
    return document.text + "\n" * bool(document.text)

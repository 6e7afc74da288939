"""From readings to hOCR, ALTO, plain text and searchable PDF."""

"""Writers of documents: JSON, text, hOCR, ALTO, tables of words, searchable PDF. Takes `documents.layout` only."""

"""Writers of documents: JSON, plain text, hOCR, ALTO, searchable PDF. Takes `service.documents.layout` only."""

"""Recognition of single lines of text. Imports `model.network`, `model.runtime` and `model.decoding`."""

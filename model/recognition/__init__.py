"""From a picture of one line to its text. May import `model.network`, `model.runtime` and `model.decoding`."""

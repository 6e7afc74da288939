"""The recogniser: arrays in, text out; it knows nothing of HTTP."""

from model.beam import Decoding
from model.checkpoint import CheckpointError
from model.page.lines import FoundLine
from model.page.reader import PageLine, PageReader, PageReading, PageSteps, load_page_reader
from model.reader import Reader, load
from model.reading import Alternative, Character, Reading

__all__ = [
    "Alternative",
    "Character",
    "CheckpointError",
    "Decoding",
    "FoundLine",
    "PageLine",
    "PageReader",
    "PageReading",
    "PageSteps",
    "Reader",
    "Reading",
    "load",
    "load_page_reader",
]

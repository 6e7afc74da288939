"""The recogniser: arrays in, text out; it knows nothing of HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.beam import Decoding
    from model.checkpoint import CheckpointError
    from model.config import ModelConfig
    from model.page.lines import FoundLine
    from model.page.reader import PageReader, load_page_reader
    from model.page.reading import PageLine, PageReading, Pages, PageSteps
    from model.preprocess import width_bucket
    from model.reader import Reader, load
    from model.reading import Alternative, Character, Reading

__all__ = [
    "Alternative",
    "Character",
    "CheckpointError",
    "Decoding",
    "FoundLine",
    "ModelConfig",
    "PageLine",
    "PageReader",
    "PageReading",
    "PageSteps",
    "Pages",
    "Reader",
    "Reading",
    "load",
    "load_page_reader",
    "width_bucket",
]

_HOMES = {
    "beam": ("Decoding",),
    "checkpoint": ("CheckpointError",),
    "config": ("ModelConfig",),
    "page.lines": ("FoundLine",),
    "page.reader": ("PageReader", "load_page_reader"),
    "page.reading": ("PageLine", "PageReading", "PageSteps", "Pages"),
    "preprocess": ("width_bucket",),
    "reader": ("Reader", "load"),
    "reading": ("Alternative", "Character", "Reading"),
}


def __getattr__(name: str) -> Any:
    """A public name from the module that it is at home in, when it is first asked for.

    Importing torch takes seconds, which a process that only passes readings on does not have to spend.
    """
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"model.{home}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

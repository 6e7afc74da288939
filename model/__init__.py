"""The recogniser: arrays in, text out; it knows nothing of HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linewise.model.decoding.beam_search import Decoding
    from linewise.model.network.checkpoint import CheckpointError
    from linewise.model.network.config import ModelConfig
    from linewise.model.page.pipeline import Pages, PageSteps
    from linewise.model.page.reader import PageReader, load_page_reader
    from linewise.model.page.results import FoundLine, PageLine, PageReading
    from linewise.model.recognition.preprocess import width_bucket
    from linewise.model.recognition.reader import Reader, load
    from linewise.model.recognition.results import Alternative, Character, Reading

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
    "decoding.beam_search": ("Decoding",),
    "network.checkpoint": ("CheckpointError",),
    "network.config": ("ModelConfig",),
    "page.pipeline": ("PageSteps", "Pages"),
    "page.reader": ("PageReader", "load_page_reader"),
    "page.results": ("FoundLine", "PageLine", "PageReading"),
    "recognition.preprocess": ("width_bucket",),
    "recognition.reader": ("Reader", "load"),
    "recognition.results": ("Alternative", "Character", "Reading"),
}


def __getattr__(name: str) -> Any:
    """A public name from the module that it is at home in, when it is first asked for.

    Importing torch takes seconds, which a process that only passes readings on does not have to spend.
    """
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
